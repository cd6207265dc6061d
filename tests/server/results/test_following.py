"""A run is followed from its directory: every round once, in order, whoever drives it, until it has ended."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.server.results.following import Follower
from lotteryfl.server.results.view import open_run
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.summaries import round_summaries
from tests.support.bench import Bench, TinyTask, simulated, tiny_experiment
from tests.support.waiting import DEADLINE

SOON = 0.01


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "run", tiny_experiment(rounds=3), TinyTask())


def a_round(bench: Bench) -> None:
    bench.do_all(bench.register())
    bench.commit()


def test_every_round_comes_once_across_restarts_until_the_run_has_finished(bench: Bench) -> None:
    with open_run(bench.path) as view:
        rounds = view.follow(interval=SOON, timeout=DEADLINE)
        for number in (1, 2):
            a_round(bench)
            bench.restart()
            found = next(rounds)
            assert found.round == number
            assert found == view.status().last
        bench.finish().close()
        assert [each.round for each in rounds] == [3, 4]
        assert [each.round for each in view.follow(3)] == [3, 4]
        assert list(view.follow(5)) == []


def test_other_coroutines_go_on_while_a_round_is_waited_for(bench: Bench) -> None:
    async def work() -> None:
        for _ in range(3):
            a_round(bench)
            await asyncio.sleep(0)
        bench.finish()

    async def follow() -> list[int]:
        with open_run(bench.path) as view:
            waiting = view.follow(interval=SOON, timeout=DEADLINE)
            first = asyncio.ensure_future(anext(waiting))
            await asyncio.sleep(2 * SOON)
            assert not first.done()
            await work()
            return [(await first).round] + [each.round async for each in waiting]

    assert asyncio.run(follow()) == [1, 2, 3, 4]
    bench.close()


def test_a_failed_run_ends_and_what_it_had_comes_first(bench: Bench) -> None:
    a_round(bench)
    bench.coordinator.fail("no worker is left")
    bench.close()
    with open_run(bench.path) as view:
        assert [each.round for each in view.follow(interval=SOON)] == [1]
        assert view.status().reason == "no worker is left"


def test_who_waits_too_long_is_told(bench: Bench) -> None:
    with open_run(bench.path) as view, pytest.raises(TimeoutError, match="no round was committed within"):
        next(view.follow(interval=SOON, timeout=0.05))
    with open_run(bench.path) as view, pytest.raises(LotteryFLError, match="interval=0: expected seconds above 0"):
        view.follow(interval=0)
    bench.close()


def test_nothing_is_read_while_nothing_changes(tmp_path: Path) -> None:
    simulated(tmp_path / "run", tiny_experiment()).close()
    reads = []

    def read(database: Database, first: int) -> list[int]:
        reads.append(first)
        return [each.round for each in round_summaries(database, first)]

    file = tmp_path / "run" / "run.db"
    long_ago = time.time() - 3600
    os.utime(file, (long_ago, long_ago))
    follower = Follower(tmp_path / "run", read)
    found = follower.look()
    assert found is not None
    assert (found.items, found.state) == ([1, 2, 3], "finished")
    assert follower.look() is None
    os.utime(file, (long_ago, long_ago + 1))
    again = follower.look()
    assert again is not None
    assert (again.items, reads) == ((), [1])


def test_a_directory_that_is_gone_is_named(bench: Bench, tmp_path: Path) -> None:
    with open_run(bench.path) as view:
        rounds = view.follow(interval=SOON)
        bench.close()
        bench.path.rename(tmp_path / "elsewhere")
        with pytest.raises(LotteryFLError, match=r"run\.db: cannot be used as a run database"):
            next(rounds)


def test_a_reader_leaves_nothing_beside_the_record(bench: Bench) -> None:
    with open_run(bench.path) as view:
        rounds = view.follow(interval=SOON)
        a_round(bench)
        next(rounds)
        view.close()
        bench.close()
        assert not (bench.path / "run.db-wal").exists()
