"""The registry of workers, with the clock passed in."""

import pytest

from lotteryfl.common.names import WorkerId
from lotteryfl.common.security.identity import name_of
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.workers import ReplacedError, UnknownWorkerError, WorkerRegistry


def test_a_worker_is_known_by_name_and_incarnation() -> None:
    registry = WorkerRegistry()
    worker_id = registry.register("gpu-7", "abc", [3, 1, 3], now=5)
    assert worker_id == "gpu-7:abc"
    assert name_of(worker_id) == "gpu-7"
    assert registry.seen(worker_id, 6).clients == frozenset({1, 3})
    assert registry.seen(registry.register("all", "x", None, now=5), 6).clients is None


def test_a_name_may_hold_colons() -> None:
    assert name_of(WorkerRegistry().register("[::1]:80", "abc", None, now=0)) == "[::1]:80"


def test_a_new_incarnation_replaces_the_old_and_no_other() -> None:
    registry = WorkerRegistry()
    old, other = registry.register("a", "1", None, now=0), registry.register("ab", "1", None, now=0)
    new = registry.register("a", "2", None, now=0)
    assert set(registry.heard) == {other, new}
    with pytest.raises(UnknownWorkerError, match="a:1"):
        registry.seen(old, 0)
    with pytest.raises(ReplacedError, match="a:1"):
        registry.register("a", "1", None, now=0)
    assert registry.register("a", "2", [4], now=1) == new
    assert registry.seen(new, 1).clients == frozenset({4})


def test_any_sign_of_life_counts() -> None:
    registry = WorkerRegistry()
    a, b = registry.register("a", "1", None, now=0), registry.register("b", "1", None, now=10)
    assert registry.heard == {a: 0, b: 10}
    registry.seen(a, 12)
    assert registry.heard == {a: 12, b: 10}
    registry.register("b", "1", None, now=13)
    assert registry.heard == {a: 12, b: 13}


def test_alive_is_who_was_heard_of_since() -> None:
    registry = WorkerRegistry()
    a, b, c = (registry.register(name, "1", None, now=now) for now, name in enumerate("abc"))
    assert [registry.count_alive(since) for since in (0, 1, 2, 3)] == [3, 2, 1, 0]
    registry.seen(a, 3)
    registry.forget(c)
    assert [registry.count_alive(since) for since in (1, 2, 3, 4)] == [2, 1, 1, 0]
    assert list(registry.heard) == [b, a]


def test_progress_is_what_was_said_last() -> None:
    registry = WorkerRegistry()
    worker = registry.seen(registry.register("a", "1", None, now=0), 0)
    registry.report(worker, [pb.AssignmentProgress(assignment_id="x", epoch=1)])
    registry.report(worker, [pb.AssignmentProgress(assignment_id="y", epoch=2)])
    assert registry.progress(worker.worker_id, "x") is None
    assert registry.progress(worker.worker_id, "y") == pb.AssignmentProgress(assignment_id="y", epoch=2)
    assert registry.progress(WorkerId("nobody:1"), "y") is None
