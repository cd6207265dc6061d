"""A disk that runs out of room is named a round ahead, on a real file system that is small."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.processes import PROGRAM
from tests.support.runs import Write

ON_SMALL_DISK = 'mount -t tmpfs -o size=14m tmpfs small && "$@" && cp small/run/summary.json .'


def on_small_disk(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder`, where `small` is a file system of its own, which ends with the command."""
    (folder / "small").mkdir()
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ON_SMALL_DISK, "sh", *map(str, command)],  # noqa: S607
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_it_is_said_once_and_the_run_goes_on(tmp_path: Path, write: Write) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not here")
    ran = on_small_disk(tmp_path, PROGRAM, "simulate", write(), "--run-dir", "small/run")
    if "unshare" in ran.stderr or "mount" in ran.stderr:
        pytest.skip(f"this user may not mount a file system of its own: {ran.stderr}")
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "summary.json").exists()
    short = r"the disk of small/run has 1[34]\.\d MB free, and a round may take 1[67]\.\d MB: make room"
    lines = re.findall(rf"WARNING ({short})$", ran.stderr, re.MULTILINE)
    assert len(lines) == 1, ran.stderr
    assert f"advice: {lines[0]}" in ran.stderr
    assert ran.stderr.index(lines[0]) < ran.stderr.index("round 2/3")
