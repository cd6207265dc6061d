"""The notebook runs from top to bottom on a small run, and is stored without outputs."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.paths import ROOT

NOTEBOOK = ROOT / "examples" / "run_directory.ipynb"
SMALL = ["rounds=2", "clients=4", "clients_per_round=3", "training.epochs=1", "strategy.accuracy_threshold=0"]


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (f"--set={setting}" for setting in SMALL)
    command = [sys.executable, "-P", "-m", "lotteryfl", "simulate", "examples/digits.toml", *settings]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    subprocess.run([*command, f"--run-dir={tmp_path / 'run'}"], cwd=ROOT, check=True, capture_output=True)
    monkeypatch.setenv("LOTTERYFL_RUN", str(tmp_path / "run"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "lotteryfl on digits: 4 clients, 2 rounds" in printed
    assert "fc1.weight: keeps" in printed


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert [cell.outputs for cell in notebook.cells if cell.cell_type == "code" and cell.outputs] == []
    assert {cell.execution_count for cell in notebook.cells if cell.cell_type == "code"} == {None}
