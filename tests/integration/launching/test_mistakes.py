"""A launch that cannot be: one line that says why, a non-zero exit, and nothing is left behind."""

from pathlib import Path

import pytest

from tests.support.runs import Start, Write


def test_what_has_never_been_a_run_cannot_be_taken_down(start: Start, tmp_path: Path) -> None:
    down = start("launch", "ssh", "nowhere", "--down")
    assert down.exit_code() == 1
    assert down.error_line == f"{tmp_path / 'nowhere'}: is no run directory, and nothing is launched for it"


@pytest.mark.parametrize("place", ["ssh", "kubernetes", "slurm"])
def test_who_lacks_a_tool_is_told_of_no_run_directory(place: str, start: Start, write: Write, tmp_path: Path) -> None:
    (tmp_path / "no tools").mkdir()
    path = write(launch={"ssh": {"hosts": ["a"]}, "kubernetes": {"image": "lotteryfl:1"}})
    before = sorted(tmp_path.iterdir())
    launch = start("launch", place, path, env={"PATH": str(tmp_path / "no tools")})
    assert launch.exit_code() == 1
    assert "on the PATH" in launch.error_line
    assert launch.stdout == ""
    assert sorted(tmp_path.iterdir()) == before
