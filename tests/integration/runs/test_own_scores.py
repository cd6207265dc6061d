"""Tasks that are no classification of pairs, through processes: the same bits, and their own numbers everywhere."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lotteryfl.commands.compare import compare
from lotteryfl.commands.inspect import status
from lotteryfl.commands.report import report
from tests.support.runs import Expect, Start, Write, assert_same_bits
from tests.support.told import told

NUMBERS = """
import torch
from torch import nn

def model():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))

def client(k, experiment):
    x = torch.randn(40, 8, generator=torch.Generator().manual_seed(k))
    return list(zip(x.split([24, 8, 8]), (x.sum(1, keepdim=True) + k).split([24, 8, 8])))
"""

WORDS = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.rnn = nn.GRU(16, 16, batch_first=True)
        self.head = nn.Linear(16, 20)

    def forward(self, tokens):
        return self.head(self.rnn(self.embed(tokens))[0])

model = Model

def client(k, experiment):
    tokens = torch.randint(0, 20, (40, 9), generator=torch.Generator().manual_seed(k))
    labels = tokens[:, 1:].clone()
    labels[:, 0] = -100
    return [TensorDataset(*part) for part in zip(tokens[:, :-1].split([24, 8, 8]), labels.split([24, 8, 8]))]
"""

DICTS = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(8, 3)

    def forward(self, features, labels=None):
        logits = self.net(features)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

model = Model

def client(k, experiment):
    x = torch.randn(40, 8, generator=torch.Generator().manual_seed(k))
    rows = [{"features": row, "labels": row[:3].argmax()} for row in x]
    return rows[:24], rows[24:32], rows[32:]
"""


@dataclass(frozen=True)
class Case:
    code: str
    objective: str
    names: tuple[str, ...]
    """What it measures beside the loss, the score first."""


CASES = {
    "regression": Case(NUMBERS, "regression", ("r2", "mae", "rmse")),
    "language model": Case(WORDS, "language-modelling", ("perplexity",)),
    "dicts": Case(DICTS, "hugging-face", ("accuracy",)),
}


def experiment(case: str, folder: Path, write: Write) -> Path:
    task = folder / f"{folder.name}.py"  # in one process, files from different folders have different names
    task.write_text(CASES[case].code)
    keys = {"name": str(task), "objective": CASES[case].objective}
    return write(task=keys, rounds=2, training={"epochs": 1, "lr": 0.05})


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_processes_come_to_the_bits_of_one_and_tell_the_score(
    case: str, tmp_path: Path, start: Start, write: Write, expect: Expect
) -> None:
    path = experiment(case, tmp_path, write)
    expected = expect(path)
    first = CASES[case].names[0]
    own = first != "accuracy"
    assert expected["score"]["name"] == first if own else "accuracy" in expected
    for many in (1, 3):
        process = start("run", path, "--workers", many, "--run-dir", f"run-{many}")
        assert process.exit_code() == 0, process.stderr
        assert_same_bits(tmp_path / f"run-{many}", expected)
        for name in CASES[case].names:
            assert len(re.findall(rf"\b{name} \S+ downloaded, \S+ personalised", process.stderr)) == 3
            assert not own or re.search(rf"^{name} +\S+ +\S+$", process.stdout, re.MULTILINE)
        assert f"{first} downloaded" in process.stdout
        assert not own or "accura" not in process.stdout + process.stderr


def called(command: Any, *arguments: object) -> str:
    result = CliRunner().invoke(command, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
@pytest.mark.parametrize("case", ["regression", "language model"])
def test_whoever_looks_at_a_run_sees_its_own_numbers_and_no_accuracy(case: str, tmp_path: Path, write: Write) -> None:
    path = experiment(case, tmp_path, write)
    out = tmp_path / "compared"
    printed = called(
        compare, path, "--strategies=fedavg", "--out", out, "--simulate", f"--task={tmp_path / tmp_path.name}.py"
    )
    run = out / "fedavg-seed0"
    page = called(report, run, "--out", tmp_path / "page") + (tmp_path / "page" / "index.html").read_text("utf-8")
    seen = {
        "compare": printed,
        "compare.json": (out / "compare.json").read_text(),
        "status": called(status, run),
        "summary.json": (run / "summary.json").read_text(),
        "report": re.sub(r"<details>.*|base64,[^\"]*", "", page, flags=re.DOTALL),
        "exporters": json.dumps(told(run)),
    }
    for where, text in seen.items():
        assert [name for name in CASES[case].names if name not in text] == [], where
        assert "ccura" not in text, where
