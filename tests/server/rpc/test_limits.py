"""Limits: how shares, rates and memories count, and that docs/security.md says what the code does."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.parts import fleet
from lotteryfl.common.tensors.receiver import FileReceiver
from lotteryfl.common.tensors.stream import CHUNK_BYTES
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.recent import Recent
from lotteryfl.server.rounds.workers import ReplacedError, UnknownWorkerError, WorkerRegistry
from lotteryfl.server.rpc.limiting import Limiting
from lotteryfl.server.rpc.limits import LimitError, Limits, check_texts
from lotteryfl.server.rpc.quotas import Rate, Shares
from lotteryfl.server.rpc.receiving import CutUploads
from lotteryfl.server.store.refusals import Refusals, Refused
from lotteryfl.server.store.rundb.database import Database
from tests.support.bench import Bench
from tests.support.paths import ROOT
from tests.support.virtualtime import run_in_virtual_time

TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_a_maps_keys_are_texts_too() -> None:
    result = pb.Result(metrics=pb.ClientMetrics(downloaded=pb.Evaluation(values={"mae": 0.5})))
    check_texts(result, 3)
    with pytest.raises(ValueError, match=r"^Evaluation\.values has 3 characters: at most 2 are taken$"):
        check_texts(result, 2)


def test_a_share_comes_back_also_where_its_call_has_failed() -> None:
    shares = Shares("calls", 2)
    with shares.one("a"), shares.one("b"):
        with pytest.raises(ZeroDivisionError), shares.one("a"):
            raise ZeroDivisionError
        with shares.one("a"):
            with pytest.raises(LimitError, match="a has 2 calls under way"), shares.one("a"):
                pass
            with shares.one("b"):
                pass
    with shares.one("a"), shares.one("a"):
        pass
    assert not shares._counts


@given(most=st.integers(1, 5), pauses=st.lists(st.floats(0, 40), max_size=40))
def test_no_minute_has_more_than_twice_the_rate_and_whoever_waits_is_let_in(most: int, pauses: list[float]) -> None:
    """What was saved up may come at once, and beside it what is due in that minute."""
    now = 0.0
    rate = Rate("calls", most, lambda: now)
    done: list[float] = []
    for pause in pauses:
        now += pause
        try:
            rate.count("a")
        except LimitError:
            assert sum(at > now - 60 for at in done) >= most - 1
        else:
            done.append(now)
    assert all(sum(start <= at < start + 60 for at in done) <= 2 * most for start in done)
    now += 60
    for _ in range(most):
        rate.count("a")
    with pytest.raises(LimitError, match=f"a has come to {most} calls in a minute"):
        rate.count("a")
    rate.count("b")


def test_a_rate_forgets_who_has_not_come_for_long() -> None:
    now = 0.0
    rate = Rate("calls", 6, lambda: now)
    for caller in range(100):
        rate.count(str(caller))
    now = 11
    rate.count("x")
    assert len(rate._done_until) == 1


def test_the_oldest_is_forgotten() -> None:
    recent = Recent(2)
    for text in ("a", "b", "a", "c"):
        recent.add(text)
    assert [text in recent for text in "abc"] == [True, False, True]
    recent.discard("a")
    recent.discard("a")
    assert "a" not in recent


def test_so_many_workers_are_known_and_the_silent_go_first() -> None:
    registry = WorkerRegistry(most=2)
    first, second = registry.register("a", "1", None, 0), registry.register("b", "1", None, 1)
    registry.seen(first, 2)
    third = registry.register("c", "1", None, 3)
    with pytest.raises(UnknownWorkerError):
        registry.seen(second, 4)
    assert registry.register("c", "1", None, 4) == third, "who comes again takes nobody's place"
    assert set(registry.heard) == {first, third}
    for incarnation in "234":
        registry.register("a", incarnation, None, 5)
    with pytest.raises(ReplacedError):
        registry.register("a", "3", None, 6)


def test_of_cut_uploads_so_many_are_kept(tmp_path: Path) -> None:
    cut = CutUploads(2)
    for number, worker in enumerate("abcc"):
        receiver = FileReceiver(tmp_path / str(number), 10, 10, "upload")
        receiver.write(b"12345")
        cut.keep(pb.Result(worker_id=worker, assignment_id="x"), receiver)
    assert [cut.received(worker, "x") for worker in "abc"] == [0, 5, 5]
    assert sorted(path.name[1] for path in tmp_path.iterdir()) == ["1", "3"]
    cut.discard()
    assert not list(tmp_path.iterdir())


def test_only_waiting_for_the_caller_counts_and_a_chunk_gives_it_the_whole_time_again() -> None:
    chunk = memoryview(bytes(CHUNK_BYTES))

    async def sent() -> AsyncIterator[Any]:
        for message in (pb.ResultPart(), *[chunk] * 3, chunk[:1]):
            await asyncio.sleep(0.3)
            yield message

    async def taken() -> int:
        limits = Limits(request_seconds=0.5, idle_seconds=0.5)
        count = 0
        async for _ in Limiting(limits)._arriving(sent(), context=None):  # type: ignore[arg-type]
            await asyncio.sleep(0.3)
            count += 1
        return count

    assert run_in_virtual_time(taken()) == 5


def test_every_limit_is_documented_with_its_default() -> None:
    pairs = re.findall(r"^\| [^|]+ \| ([\d.,]+)[^|]* \| `(\w+)` \|", TEXT, re.MULTILINE)
    found = {name: float(value.replace(",", "")) for value, name in pairs}
    expected = {field.name: float(getattr(Limits(connections=4096), field.name)) for field in fields(Limits)}
    assert found == expected


def test_honest_workers_are_far_below() -> None:
    limits = Limits()
    assert limits.calls_per_caller <= limits.calls_per_connection, "more would wait and never be told why"
    assert limits.calls_per_caller < limits.calls
    assert limits.header_bytes < CHUNK_BYTES + 1


def test_as_many_workers_as_is_said_may_share_an_address_and_come_at_once() -> None:
    said = re.search(r"([\d,]+) workers may stand behind one address", TEXT)
    assert said is not None
    limits, workers = Limits(), int(said[1].replace(",", ""))
    assert workers >= fleet.FULL.workers, "the benchmark's all come from one"
    assert min(limits.calls_per_caller, limits.calls_per_connection) >= 3 * workers, "a poll, a heartbeat, a download"
    assert min(limits.connections, limits.registrations_per_minute) >= workers
    assert limits.calls - limits.calls_per_caller >= limits.calls_per_caller, "there is room for others"


# -- what callers name does not pile up


def test_a_status_names_those_of_whom_most_was_refused(tmp_path: Path) -> None:
    refusals = Refusals(Database(tmp_path / "run.db"), most=3)
    for number in range(150):
        refusals.put(f"w{number}", Refused(number, "rubbish"))
    assert {message.results for message in refusals.messages()} == set(range(50, 150))


def test_progress_is_kept_of_what_a_worker_holds_alone(drive: Callable[..., Bench]) -> None:
    bench = drive()
    worker = bench.register("w")
    held = bench.take(worker).assignment.assignment_id
    others = ["r1-c0-a9", "r9-c9-a9", "x"]
    progress = [pb.AssignmentProgress(assignment_id=id_) for id_ in (held, *others)]
    assert bench.coordinator.heartbeat(worker, progress) == others
    assert list(bench.coordinator._workers.seen(worker, 0).progress) == [held]


def test_traffic_is_counted_for_assignments_of_late_alone(drive: Callable[..., Bench]) -> None:
    bench = drive()
    for name in ("r1-c0-a1", "r900-c0-a1", "r1-c900-a1", "x"):
        bench.coordinator.count_bytes(name, down=10)
    assert bench.coordinator.status().bytes_down == 40
    assert set(bench.coordinator._ledger.traffic._pending_down) == {(1, 0)}
