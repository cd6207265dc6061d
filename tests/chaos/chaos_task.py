"""Little data and a model of some chunks: streams have a first, a middle and a last one, also of a pruned model."""

import os

import numpy as np
from torch import nn

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.randomness import generator

_WIDTH = int(os.environ.get("CHAOS_TASK_WIDTH", "8192"))
_EXAMPLES = (24, 8, 8)
_FEATURES, _CLASSES = 64, 3


def model() -> nn.Module:
    return nn.Sequential(
        nn.Linear(_FEATURES, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, 128), nn.ReLU(), nn.Linear(128, _CLASSES)
    )


def client(k: int, experiment: Experiment) -> list[tuple[np.ndarray, np.ndarray]]:
    centres = generator(experiment.seed, "centres").normal(size=(_CLASSES, _FEATURES))
    random = generator(experiment.seed, "examples", k)
    parts = []
    for size in _EXAMPLES:
        labels = random.integers(_CLASSES, size=size)
        parts.append((centres[labels] + random.normal(size=(size, _FEATURES)), labels))
    return parts
