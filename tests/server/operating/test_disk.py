"""Room on the disk for another round, by what the last ones have taken."""

import shutil
from collections import namedtuple
from collections.abc import Callable

import pytest

from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.bench import Bench, tiny_experiment

Drive = Callable[..., Bench]
Usage = namedtuple("Usage", "total used free")


def used(bench: Bench, *folders: str) -> int:
    """Return the bytes of the disk that the files of some folders take."""
    return sum(512 * file.stat().st_blocks for folder in folders for file in (bench.path / folder).iterdir())


def end_round(bench: Bench) -> None:
    bench.do_all(bench.register())
    bench.commit()
    bench.coordinator.look_at_disk()


def test_what_a_round_takes_is_that_of_its_files_and_is_told_when_there_is_less(
    drive: Drive, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Free space is the file system's to say: a test has none that is filled to the byte."""
    bench = drive(tiny_experiment(rounds=4, clients=3))
    free = 1 << 60
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, free))
    end_round(bench)
    assert bench.coordinator.status().advice == ""
    new_model = 512 * bench.run.model_path(1).stat().st_blocks
    need = (16 << 20) + used(bench, "results", "masks") + 2 * new_model
    free = need
    end_round(bench)
    assert (bench.coordinator.status().advice, caplog.text) == ("", "")
    free = need - 1
    for _ in range(2):
        end_round(bench)
        advice = bench.coordinator.status().advice
        assert advice.startswith(f"the disk of {bench.path} has 16.")
        assert advice.endswith("MB: make room")
        assert caplog.text.count("make room") == 1, "it is news once"
    assert bench.coordinator.state == "running"
    free = need
    end_round(bench)
    assert bench.coordinator.status().state == pb.RunStatus.FINISHED
