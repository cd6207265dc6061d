"""The profile: what py-spy has seen is counted by step, and the picture shows every step."""

from pathlib import Path

import pytest

from benchmarks import profile
from benchmarks.picture import draw
from benchmarks.stopwatch import Lap

_THREAD = "_worker (concurrent/futures/thread.py:83)"
_LOOP = "_run_once (asyncio/base_events.py:1922);Handle._run (asyncio/events.py:80)"
STACKS = f"""\
thread (1): MainThread;{_LOOP} 3
thread (1): MainThread;{_LOOP};Limiting._answer (server/rpc/limiting.py:88) 2
thread (1): MainThread;{_LOOP};Limiting._answer (server/rpc/limiting.py:88);Upload._next (server/rpc/receiving.py:131) 5
thread (1): MainThread;{_LOOP};Limiting._answer (server/rpc/limiting.py:88);timeout (asyncio/timeouts.py:145) 7
thread (2): coordinator_0;{_THREAD};Coordinator.lease (server/rounds/coordinator.py:181) 4
thread (2): coordinator_0;{_THREAD};_sync (server/store/rundb/transaction.py:48) 90
thread (3): asyncio_0;{_THREAD};Spool.take (server/rpc/spooling.py:39) 6
thread (3): asyncio_0;{_THREAD};AtomicFile.sync (common/disk/atomicfile.py:44) 50
thread (2): coordinator_0 5
thread (4): somebody's;run (somewhere.py:1) 8
"""


def test_samples_count_for_the_step_that_they_were_nearest_to(tmp_path: Path) -> None:
    """What waits for the disk takes no processor time, and who is none of ours does not count."""
    (tmp_path / "stacks").write_text(STACKS, encoding="utf-8")
    found = {
        thread: {step: count for (_, step), count in steps.items()}
        for thread, steps in profile.samples(tmp_path / "stacks").items()
    }
    assert found == {
        "1": {"gRPC's messages and calls": 5, "the service": 5, "limits and identity": 7},
        "2": {"leases": 4},
        "3": {"results' files": 6},
    }


def test_the_picture_has_every_process_and_step(tmp_path: Path) -> None:
    processes = {"worker 1": {"download": [Lap(0.9, 1.2)]}, "coordinator": {"commit": [Lap(1.8, 2.0)]}}
    draw(tmp_path / "profile.svg", Lap(1.0, 2.0), processes, {("MainThread", "the service"): 0.001}, 1000)
    text = (tmp_path / "profile.svg").read_text(encoding="utf-8")
    for name in ("worker 1", "coordinator", "download", "commit", "1,000 workers", "event loop: the service"):
        assert f"<!-- {name}" in text, name


@pytest.mark.slow
def test_a_round_is_taken_apart_by_process() -> None:
    whole, processes = profile.sparse_round(profile.QUICK.rounds)
    assert list(processes) == ["worker 1", "coordinator"]
    assert {"download", "work", "upload"} <= processes["worker 1"].keys()
    assert any(whole.start <= lap.start <= whole.end for lap in processes["coordinator"]["aggregate"])
