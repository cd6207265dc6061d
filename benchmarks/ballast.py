"""A task that moves a model of any size and trains next to nothing: what is left of a round is the system."""

import os
import time

import torch
from torch import Tensor, nn

from benchmarks.inputs import MODELS
from lotteryfl.common.experiment.experiment import Experiment

SIZE = "LOTTERYFL_BENCHMARK_MODEL"
"""Environment variable with one of `MODELS`."""

SECONDS = "LOTTERYFL_BENCHMARK_SECONDS"
"""Environment variable with how long a client's work keeps a worker waiting, as for a device; absent: not at all."""


class Ballast(nn.Module):
    """Carries a model that takes no part in the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.cargo = MODELS[os.environ[SIZE]]()
        self.answer = nn.Linear(2, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (batch, 2) of inputs (batch, 2)."""
        logits: Tensor = self.answer(inputs)
        return logits


def model() -> nn.Module:
    """Build the model."""
    return Ballast()


def client(_k: int, _experiment: Experiment) -> list[tuple[Tensor, Tensor]]:
    """Return two examples for training, validation and test."""
    time.sleep(float(os.environ.get(SECONDS, "0")))
    return [(torch.eye(2), torch.arange(2))] * 3
