"""A task of your own: tumours told from 30 measurements; every clinic sees its own mix of diagnoses."""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale
from torch import nn

from lotteryfl import Experiment
from lotteryfl.common.randomness import generator
from lotteryfl.common.tasks.partition import Partition, stratified_split

inputs, labels = load_breast_cancer(return_X_y=True)
inputs = scale(inputs)


def model() -> nn.Module:
    """Return the network that all clients train; the coordinator's seed decides its initial weights."""
    return nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))


def client(k: int, experiment: Experiment) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return client k's training, validation and test data, each as (inputs, labels)."""
    train, test = stratified_split(labels, 0.25, generator(experiment.seed, "tumours-test"))
    settings = experiment.partition
    partition = Partition(labels[train], labels[test], settings, experiment.clients, experiment.seed)
    mine = partition.client(k)
    parts = (train[mine.train], train[mine.validation], test[mine.test])
    return [(inputs[part], labels[part]) for part in parts]
