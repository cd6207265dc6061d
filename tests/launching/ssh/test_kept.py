"""What a keeper writes down, how it is known to be there, and how patient it is."""

import os
from pathlib import Path

import pytest

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.launching.launcher import Stage
from lotteryfl.launching.ssh.kept import Kept, KeptFiles
from lotteryfl.launching.ssh.retrying import ConnectionGoneError, Retrying, WorkerFailedError


def test_news_are_told_once_and_only_the_last_are_kept(tmp_path: Path) -> None:
    files, kept = KeptFiles(tmp_path), Kept()
    for number in range(150):
        kept = kept.with_news(str(number))
    files.write(kept)
    assert files.read() == kept
    assert kept.news_after(150) == ()
    assert kept.news_after(148) == ("148", "149")
    assert len(kept.news_after(0)) == 100


def test_a_keeper_is_there_as_long_as_it_holds_its_lock(tmp_path: Path) -> None:
    files = KeptFiles(tmp_path)
    assert files.keeper() is None
    with files.hold(os.getpid()):
        assert files.keeper() == os.getpid()
        with pytest.raises(LotteryFLError, match="another process keeps this launch"):
            files.hold(1)
        assert files.keeper() == os.getpid()
    assert files.keeper() is None


@pytest.mark.parametrize("text", ["", "{", '{"stage": "asleep"}', "x" * (2 << 20)])
def test_a_damaged_state_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "keeper.json").write_text(text)
    with pytest.raises(LotteryFLError, match=r"keeper\.json: "):
        KeptFiles(tmp_path).read()


def test_a_stage_reads_back(tmp_path: Path) -> None:
    KeptFiles(tmp_path).write(Kept(stage=Stage.ENDED, why="so", code=3))
    assert KeptFiles(tmp_path).read() == Kept(stage=Stage.ENDED, why="so", code=3)


def test_a_host_that_cannot_be_reached_is_tried_until_its_time_is_over() -> None:
    gone = ConnectionGoneError("gone")
    retrying = Retrying(1000)
    assert [retrying.pause(gone) for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    with pytest.raises(ConnectionGoneError):
        Retrying(0).pause(gone)


def test_a_worker_that_fails_at_once_again_and_again_is_given_up() -> None:
    retrying, failed = Retrying(1000), WorkerFailedError("failed", 1)
    retrying.pause(failed)
    retrying.pause(failed)
    with pytest.raises(WorkerFailedError):
        retrying.pause(failed)
    with pytest.raises(WorkerFailedError):
        Retrying(1000).pause(WorkerFailedError("no program", 127))
