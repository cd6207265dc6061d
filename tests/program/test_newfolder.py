"""Whoever names no run directory gets one of their own, also of two that begin in the same second."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.program import program
from lotteryfl.running.newfolder import new_folder
from tests.support.runs import GATED_TASK

TINY = f'rounds = 1\nclients = 1\nclients_per_round = 1\n[task]\nname = "{GATED_TASK}"\n'


def test_folders_of_the_same_moment_differ(tmp_path: Path) -> None:
    with (
        new_folder(tmp_path / "runs", "x") as first,
        new_folder(tmp_path / "runs", "x") as second,
        new_folder(tmp_path / "runs", "x") as third,
    ):
        assert len({first, second, third}) == 3
        assert all(path.is_dir() and path.name.startswith("x-2") for path in (first, second, third))
        (second / "kept").touch()
    assert list((tmp_path / "runs").iterdir()) == [second], "what nothing was set up in is gone"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with (
        pytest.raises(LotteryFLError, match=r"runs/x-\d{8}-\d{6}: cannot be made: "),
        new_folder(tmp_path / "runs", "x"),
    ):
        pass


def test_a_run_that_begins_in_the_same_second_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(TINY)
    now = datetime.now()
    for seconds in range(600):  # whatever second it begins in, somebody has begun in it too
        other = Path("runs") / f"tiny-{now + timedelta(seconds=seconds):%Y%m%d-%H%M%S}"
        other.mkdir(parents=True)
        (other / "run.lock").touch()
        (other / "theirs").touch()
    result = CliRunner().invoke(program, ["simulate", "tiny.toml"], standalone_mode=False)
    assert result.exception is None, result.output
    (path,) = {path for path in Path("runs").iterdir() if not (path / "theirs").exists()}
    assert path.name.endswith("-2")
    assert (path / "summary.json").exists()


def test_a_run_that_cannot_be_set_up_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(TINY.replace(str(GATED_TASK), "nowhere.py"))
    result = CliRunner().invoke(program, ["simulate", "tiny.toml"], standalone_mode=False)
    assert isinstance(result.exception, LotteryFLError)
    assert not list(Path("runs").iterdir())
