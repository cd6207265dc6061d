"""The same bits with people's habits: what a task draws from the global generators of random, NumPy and torch."""

from pathlib import Path

from lotteryfl.server.results.verify import verify
from tests.support.runs import Expect, Start, Write, assert_same_bits

HABITS = """
import random
import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

SCALE = 1 + np.random.random()
_known = {}


class Augmented(Dataset):
    def __init__(self, inputs, labels):
        self.inputs, self.labels = inputs, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        noise = torch.from_numpy(np.random.normal(size=6)).float() * random.random() + torch.rand(6)
        return self.inputs[index] + 0.1 * noise, self.labels[index]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("shift", torch.randn(6), persistent=False)
        self.layers = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Dropout(), nn.Linear(12, 3))
        with torch.no_grad():
            self.layers[0].weight.mul_(random.random())

    def forward(self, inputs):
        return self.layers(inputs + self.shift)


def model():
    return Net()


def client(k, experiment):
    if k not in _known:  # the second time nothing is drawn
        inputs = np.random.normal(size=(24, 6)).astype(np.float32) * SCALE
        labels = inputs[:, :3].argmax(axis=1)
        order = list(range(24))
        random.shuffle(order)
        inputs, labels = torch.from_numpy(inputs[order]), torch.from_numpy(labels[order])
        _known[k] = [Augmented(inputs[at], labels[at]) for at in (slice(0, 16), slice(16, 20), slice(20, 24))]
    return _known[k]


def global_test(experiment):
    inputs = np.random.normal(size=(12, 6)).astype(np.float32)
    return torch.from_numpy(inputs), torch.from_numpy(inputs[:, :3].argmax(axis=1))
"""


def test_two_workers_and_one_process_draw_the_same(tmp_path: Path, start: Start, write: Write, expect: Expect) -> None:
    (tmp_path / "habits.py").write_text(HABITS)
    path = write(task={"name": str(tmp_path / "habits.py")}, evaluation={"global_examples": 8})
    run = start("run", path, "--workers", 2, "--run-dir", "run")
    assert run.exit_code() == 0, run.stderr
    assert_same_bits(tmp_path / "run", expect(path))
    assert not verify(tmp_path / "run").problems
