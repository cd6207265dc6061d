"""A comparison whose jobs ended long ago is judged by its run directories."""

import asyncio
from pathlib import Path

import pytest

from lotteryfl.common.experiment.experiment import to_toml
from lotteryfl.comparing.cells import Cell
from lotteryfl.launching.folder import LaunchFolder
from lotteryfl.launching.launcher import Request
from lotteryfl.launching.settings import LaunchSettings
from lotteryfl.launching.slurm import sweep as module
from lotteryfl.launching.slurm.sweep import CELLS, Sweep
from lotteryfl.running.owncode import OwnCode
from tests.support.bench import simulated, tiny_experiment

ANSWERS = {"squeue": "", "sacct": "echo 'Slurm accounting storage is disabled' >&2; exit 1", "scancel": ""}


def test_jobs_that_slurm_has_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, script in ANSWERS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(module, "_TROUBLE_SECONDS", 0.0)
    source, out = tmp_path / "e.toml", tmp_path / "out"
    out.mkdir()
    source.write_text(to_toml(tiny_experiment()))
    simulated(out / "done", tiny_experiment()).close()
    cells = [Cell(name, 0, source, (), out / name) for name in ("done", "lost")]
    request = Request(source, out, (), OwnCode(), LaunchSettings(), LaunchFolder(out))
    request.folder.begin(request.record("slurm"))
    for what, names in (("name", ["lotteryfl-out"]), (CELLS, ["done", "lost"]), ("job", ["12"])):
        request.folder.note(what, names)
    failed = asyncio.run(Sweep(request, ("simulate",), 0, print).run(cells))
    assert {cell.path.name: why for cell, why in failed.items()} == {
        "lost": "Slurm knows nothing of its job any more, and it has not finished"
    }
    assert not request.folder.is_up
