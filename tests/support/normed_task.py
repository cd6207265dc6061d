"""A small task with a batch norm; every client has inputs of its own scale, and the classes by other numbers."""

import numpy as np
from torch import nn

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.randomness import generator

FEATURES, UNITS, CLASSES = 6, 8, 3


def model() -> nn.Module:
    return nn.Sequential(
        nn.Linear(FEATURES, UNITS),
        nn.BatchNorm1d(UNITS),
        nn.ReLU(),
        nn.Linear(UNITS, UNITS),
        nn.ReLU(),
        nn.Linear(UNITS, CLASSES),
    )


def examples(k: int) -> int:
    """For training."""
    return int(6 * 3**k)


def client(k: int, experiment: Experiment) -> list[tuple[np.ndarray, np.ndarray]]:
    centres = generator(experiment.seed, "centres").normal(size=(CLASSES, FEATURES))
    random = generator(experiment.seed, "examples", k)
    parts = []
    for size in (examples(k), 6, 30):
        labels = random.integers(CLASSES, size=size)
        inputs = 3.0**k * (centres[labels] + 0.3 * random.normal(size=(size, FEATURES))) + 2 * k
        parts.append((inputs.astype(np.float32), (labels + k) % CLASSES))
    return parts
