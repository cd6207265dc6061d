"""Tasks as people write them: several files, views of numpy, constants that are not finite, weight norm, frozen layers.

On one process, one worker and four. What one client's data raises, and what a model keeps beside its tensors, is in
tests/integration/failures/test_clients_trouble.py; DP-SGD of such layers in one process in
tests/program/test_peoples_models.py.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from lotteryfl.server.results.verify import verify
from lotteryfl.server.rounds.codeversion import task_version
from lotteryfl.server.store.rundir import inspected
from tests.support.runs import Start, Write, read_summary

WAYS = {"simulate": ("simulate",), "one": ("run", "--workers=1"), "four": ("run", "--workers=4")}

DATA = """
import numpy as np

def rows(k, many):
    random = np.random.default_rng([k, many])
    inputs = random.normal(size=(many, 8)).astype(np.float32)
    return inputs, (inputs[:, 0] > 0).astype(np.int64) + (inputs[:, 1] > 0)

def three(k):
    return [rows(k, many) for many in (24, 8, 9)]
"""
"""A file beside each task; like theirs its name is one that everybody uses."""

SEVERAL_FILES = {
    "task.py": """
from models import model

def client(k, experiment):
    from utils import three, upside_down
    return upside_down(k, three(k))
""",
    "models/__init__.py": "from .nets import Net as model\n",
    "models/nets.py": """
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(weight_norm(nn.Linear(8, 16)), nn.ReLU(), weight_norm(nn.Linear(16, 3)))
        self.register_buffer("causal", torch.triu(torch.full((4, 4), -torch.inf), 1))

    def forward(self, inputs):
        return self.layers(inputs)
""",
    "utils.py": DATA
    + """
def upside_down(k, parts):
    flipped = [(inputs[::-1], labels[::-1]) for inputs, labels in parts]
    return flipped if k % 2 else [(x.astype(">f4"), y.astype(">i8")) for x, y in flipped]
""",
    "profile.py": "raise RuntimeError('nobody imports this: it has the name of a module of Python')\n",
}

FROZEN = """
from torch import nn
from utils import three

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.unused = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, inputs):
        return self.head(self.frozen(inputs).relu())

model = Net

def client(k, experiment):
    return three(k)
"""

PRUNED = """
from torch import nn
from torch.nn.utils import prune
from utils import three

def model():
    net = nn.Sequential(nn.Linear(8, 3))
    prune.l1_unstructured(net[0], "weight", amount=0.5)
    return net

def client(k, experiment):
    return three(k)
"""

OWN_LOADER = """
from functools import cache

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from utils import rows

class Rows(Dataset):
    def __len__(self):
        return 24

    def __getitem__(self, index):
        inputs, labels = rows(0, 24)
        return inputs[index], labels[index]

@cache
def loaded():
    loader = DataLoader(Rows(), batch_size=24, num_workers=1, multiprocessing_context="spawn")
    return next(iter(loader))

def model():
    return nn.Linear(8, 3)

def client(k, experiment):
    return [loaded()] * 3
"""


@pytest.fixture
def task(tmp_path: Path) -> Any:
    """Write the files of a task into a folder that is not the one where the program runs, and return its task.py."""

    def write_(files: dict[str, str]) -> Path:
        for name, text in ({"utils.py": DATA} | files).items():
            path = tmp_path / "project" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "project" / "task.py"

    return write_


@pytest.mark.slow
def test_several_files_with_all_that_people_have_in_them(tmp_path: Path, task: Any, start: Start, write: Write) -> None:
    source = task(SEVERAL_FILES)
    path = write(
        task={"name": str(source)},
        rounds=1,
        clients_per_round=4,
        training={"epochs": 1},
        strategy={"prune_rate": 0.95, "target_density": 0.05},
    )
    for way, command in WAYS.items():
        process = start(*command, path, "--run-dir", way)
        assert process.exit_code() == 0, process.stderr
    assert len({read_summary(tmp_path / way)["model_sha256"] for way in WAYS}) == 1
    assert len({read_summary(tmp_path / way)["tickets_sha256"] for way in WAYS}) == 1
    with inspected(tmp_path / "four") as run:
        files = {"task.py", "utils.py", "models/__init__.py", "models/nets.py"}
        assert set(task_version(run).files) == files
        pruned = [f"layers.{layer}.parametrizations.weight.original1" for layer in (0, 2)]
        assert [spec.name for spec in run.table if spec.prunable] == pruned
        assert all(row.density == pytest.approx(0.05, abs=0.01) for row in run.database.clients())
        first, last = (run.global_model(round_) for round_ in (0, 1))
        assert torch.equal(first["causal"], last["causal"])
    assert not verify(tmp_path / "four").problems


@pytest.mark.parametrize("way", ["one", pytest.param("four", marks=pytest.mark.slow)])
def test_dp_sgd_with_a_layer_that_is_frozen_and_one_that_is_unused(
    way: str, tmp_path: Path, task: Any, start: Start, write: Write
) -> None:
    pytest.importorskip("opacus")
    source = task({"task.py": FROZEN})
    path = write(task={"name": str(source)}, rounds=1, training={"epochs": 1}, privacy={"dp_sgd": True})
    process = start(*WAYS[way], path, "--run-dir", "run")
    assert process.exit_code() == 0, process.stderr
    with inspected(tmp_path / "run") as run:
        first, last = (run.global_model(round_) for round_ in (0, 1))
        assert torch.equal(first["frozen.weight"], last["frozen.weight"])
        assert not torch.equal(first["head.weight"], last["head.weight"])
        assert [spec.name for spec in run.table if spec.prunable] == ["head.weight", "unused.weight"]


@pytest.mark.parametrize("way", WAYS)
def test_a_pruned_model_is_refused_before_anything_is_made(
    way: str, tmp_path: Path, task: Any, start: Start, write: Write
) -> None:
    path = write(task={"name": str(task({"task.py": PRUNED}))})
    process = start(*WAYS[way], path, "--run-dir", "run")
    assert process.exit_code() == 1
    assert re.match(r"task task: model\(\) returned a pruned model \('0.weight' has a mask\)", process.error_line)
    assert not (tmp_path / "run").exists()


def test_processes_of_a_tasks_own_import_what_lies_beside_it(
    tmp_path: Path, task: Any, start: Start, write: Write
) -> None:
    """A DataLoader's that are spawned, not forked: they begin with `sys.path` alone, and import the task itself."""
    path = write(task={"name": str(task({"task.py": OWN_LOADER}))}, rounds=1, clients=2, clients_per_round=2)
    process = start("simulate", path, "--run-dir", "run")
    assert process.exit_code() == 0, process.stderr
