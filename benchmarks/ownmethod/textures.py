"""A task of coloured textures, drawn by numbers: ten classes of two gratings each, Dirichlet clients."""

import numpy as np
from torch import nn

from lotteryfl import Experiment
from lotteryfl.common.randomness import generator

SIZE, CLASSES = 16, 10
Examples = tuple[np.ndarray, np.ndarray]


def model() -> nn.Module:
    """Build a network of two convolutions with group norm and two linear layers: 38,586 parameters."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.GroupNorm(4, 32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 16, 64),
        nn.ReLU(),
        nn.Linear(64, CLASSES),
    )


def client(k: int, experiment: Experiment) -> list[Examples]:
    """Return 80 examples to train on, 20 for validation, 100 to test, all by the client's shares of the classes."""
    random = generator(experiment.seed, "client", k)
    shares = random.dirichlet(np.full(CLASSES, 0.3))
    parts = (random.choice(CLASSES, size, p=shares) for size in (80, 20, 100))
    return [_textures(random, labels, experiment) for labels in parts]


def global_test(experiment: Experiment) -> Examples:
    """Return 1000 examples, as many of each class."""
    return _textures(generator(experiment.seed, "global"), np.arange(1000) % CLASSES, experiment)


def _textures(random: np.random.Generator, labels: np.ndarray, experiment: Experiment) -> Examples:
    """Draw images (N, 3, SIZE, SIZE): a class has two gratings' directions, frequencies and colours, which vary."""
    kinds = generator(experiment.seed, "kinds")
    angles = kinds.uniform(0, np.pi, (CLASSES, 2))
    frequencies = kinds.uniform(1, 5, (CLASSES, 2))
    colours = kinds.normal(0, 0.6, (CLASSES, 2, 3))
    count = len(labels)
    rows, columns = np.mgrid[:SIZE, :SIZE] / SIZE
    images = np.zeros((count, 3, SIZE, SIZE))
    for part in range(2):
        angle = (angles[labels, part] + random.normal(0, 0.15, count))[:, None, None]
        frequency = (frequencies[labels, part] * np.exp(random.normal(0, 0.1, count)))[:, None, None]
        phase = random.uniform(0, 2 * np.pi, count)[:, None, None]
        wave = np.sin(2 * np.pi * frequency * (np.cos(angle) * rows + np.sin(angle) * columns) + phase)
        colour = colours[labels, part] + random.normal(0, 0.5, (count, 3))
        images += colour[:, :, None, None] * wave[:, None]
    images += random.normal(0, 1.0, images.shape)
    return images.astype(np.float32), labels
