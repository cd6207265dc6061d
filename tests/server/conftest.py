"""A finished run, to look at and to damage."""

import shutil
from pathlib import Path

import pytest
from driving import simulated, tiny_experiment

from server.report import write_summary


@pytest.fixture(scope="module")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verify") / "run"
    with simulated(path, tiny_experiment()) as run:
        write_summary(run)
    return path


@pytest.fixture
def finished_run(_finished: Path, tmp_path: Path) -> Path:
    """A finished run to damage: 4 clients, 2 rounds of 3 and the final one of all."""
    return Path(shutil.copytree(_finished, tmp_path / "run"))
