"""Python and shell of the documents run as they stand, in order, in a folder for each document."""

import os
import re
import shutil
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lotteryfl
from tests.docs.blocks import ALL, Block
from tests.support.paths import ROOT

SMALL = ["rounds=2", "clients=4", "clients_per_round=4", "training.epochs=1", "strategy.accuracy_threshold=0.0"]
STARTS_WORKERS = ("README.md",)
"""Documents whose Python starts processes, which takes its time."""


def by_document() -> list[Any]:
    """Return the blocks of each document that has some; where they start processes, as shell does, it is slow."""
    here = [block for block in ALL if block.runs_here and block.language in ("python", "sh")]
    found = []
    for document, each in groupby(here, key=lambda block: block.document):
        blocks = [*each]
        slow = document in STARTS_WORKERS or any(block.language == "sh" for block in blocks)
        marks = [pytest.mark.slow, pytest.mark.timeout(900)] if slow else []
        found.append(pytest.param(blocks, id=document, marks=marks))
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has finished."""
    run = tmp_path_factory.mktemp("runs") / "demo"
    lotteryfl.simulate(lotteryfl.load_experiment(ROOT / "examples" / "digits.toml", SMALL), run, device="cpu").close()
    return run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Path) -> Path:
    """Be where the reader is: with examples, an experiment, and a run that has finished."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    settings = [f"{key} = {value}" for key, _, value in (each.partition("=") for each in SMALL) if "." not in key]
    (tmp_path / "small.toml").write_text("\n".join(settings))
    shutil.copytree(finished, tmp_path / "runs" / "demo")
    return tmp_path


@pytest.mark.parametrize("blocks", by_document())
def test_they_run(blocks: list[Block], folder: Path) -> None:
    """Python blocks share their names, and find what a reader has at hand; each block of shell succeeds as a whole."""
    for shown in (block for block in ALL if block.document == blocks[0].document):
        if name := re.match(r"# (\w+\.(?:py|toml))\n", shown.text):
            (folder / name[1]).write_text(shown.text)
    if "lotteryfl init" not in blocks[0].text:
        shutil.copy(folder / "small.toml", folder / "experiment.toml")
    names = at_hand()
    for block in blocks:
        if block.language == "python":
            exec(compile("\n" * block.line + block.text, block.document, "exec"), names)  # noqa: S102 - our own documents
        else:
            run_shell(block, folder)
    for each in names.values():
        if isinstance(each, lotteryfl.RunView):
            each.close()


def at_hand() -> dict[str, object]:
    """Return the names that the documents' Python takes for granted."""
    data = torch.utils.data.TensorDataset(torch.randn(40, 4), torch.arange(40) % 2)
    given = {"__name__": "document", "lotteryfl": lotteryfl, "torch": torch, "nn": nn}
    return {**given, "model": nn.Linear(4, 2), "data": data}


def run_shell(block: Block, folder: Path) -> None:
    """Run a block with the program on the path."""
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    command = ["bash", "-euo", "pipefail", "-c", block.text]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block.place}: {done.stderr}"
