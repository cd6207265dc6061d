"""Processes of the program that actors and launches keep: what they are handed, how they end, how they are found."""

import os
from pathlib import Path

import pytest

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.launching.ray.child import Child, Handed
from lotteryfl.launching.ray.here import ProcessHere
from tests.support.processes import free_port


def test_a_child_reads_what_it_is_handed_and_nothing_of_it_is_a_file(tmp_path: Path) -> None:
    child = Child(["simulate"], [Handed("", b"rounds = many")], {}, tmp_path / "log")
    assert child.wait() == 1
    assert "not valid TOML" in child.last_line()
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_secret_that_is_handed_is_not_shown() -> None:
    assert "secret" not in repr(Handed("--tls-key", b"secret"))


def test_a_child_ends_when_it_is_told_to(tmp_path: Path) -> None:
    child = Child(["watch", f"127.0.0.1:{free_port()}"], [], {}, tmp_path / "log")
    child.end(seconds=60)
    assert child.code is not None


def test_a_process_says_why_it_has_ended_and_gives_its_lock_back(tmp_path: Path) -> None:
    process = ProcessHere(tmp_path / "lock", tmp_path / "log")
    assert not process.is_alive
    process.start(["simulate", str(tmp_path / "none.toml")])
    os.waitpid(int((tmp_path / "lock").read_text()), 0)
    assert not process.is_alive
    assert process.reason().endswith("none.toml: No such file or directory")
    process.end()
    assert not (tmp_path / "lock").exists()


def test_a_process_that_runs_is_not_started_again_and_is_ended_by_its_number(tmp_path: Path) -> None:
    process = ProcessHere(tmp_path / "lock", tmp_path / "log")
    process.start(["work", f"--coordinator=127.0.0.1:{free_port()}"])  # which it goes on trying to reach
    with pytest.raises(LotteryFLError, match="a process of this launch runs already"):
        process.start([])
    process.end()
    assert not process.is_alive
    assert process.reason().startswith("was ended before its end; log: ")
