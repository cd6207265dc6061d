"""Latent Dirichlet allocation as two benchmarks' code deals it, index by index: class by class in random proportions.

Both draw again until everybody has enough, and give nothing more of a class to who has a fair share of all already
(so does the code that both name as its source, github.com/IBM/probabilistic-federated-neural-matching).
"""

from itertools import repeat

import numpy as np

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.tasks.partition.classes import IntArray
from lotteryfl.common.tasks.partition.holdings import Holdings, legacy_generator

_MOST_TRIES = 1000
"""Of dealing all, after which the code that deals is said never to end."""

_PFLLIB_BATCH, _PFLLIB_TRAIN = 10, 0.75
_FEDPRUNING_LEAST = 10


def deal_as_pfllib(train: IntArray, test: IntArray, settings: PartitionSettings, clients: int, seed: int) -> Holdings:
    """Deal training and test examples together, then split everyone's at random: three quarters are to train on.

    (github.com/TsingZ0/PFLlib at d832e76f, dataset/utils/dataset_utils.py; its own seed is 1.)

    Args:
        train: classes of all examples, those of the test data after those of the training data.
        test: the same.
        settings: alpha.
        clients: how many.
        seed: of numpy's.

    Raises:
        TaskError: not everybody gets enough.
    """
    del test  # it is in `train`
    random = legacy_generator(seed)
    least = int(min(_PFLLIB_BATCH / (1 - _PFLLIB_TRAIN), len(train) / clients / 2))
    parts: list[tuple[IntArray, IntArray]] = []
    for held in _deal(train, settings.alpha, clients, least, random):
        size = int(_PFLLIB_TRAIN * len(held))
        order = held[random.permutation(len(held))]  # scikit-learn's train_test_split: what is tested on comes first
        parts.append((order[len(held) - size :], order[: len(held) - size]))
    return Holdings([part for part, _ in parts], [part for _, part in parts])


def deal_as_fedpruning(
    train: IntArray, test: IntArray, settings: PartitionSettings, clients: int, seed: int
) -> Holdings:
    """Deal training examples; everyone is tested on all test examples.

    (github.com/FedPruning/FedPruning at 70698813, api/data_preprocessing/cifar10/data_loader.py; its own seed is 0.)

    Raises:
        TaskError: not everybody gets enough.
    """
    random = legacy_generator(seed)
    held = _deal(train, settings.alpha, clients, _FEDPRUNING_LEAST, random)
    for part in held:
        random.shuffle(part)
    return Holdings(held, list(repeat(np.arange(len(test)), clients)))


def _deal(labels: IntArray, alpha: float, clients: int, least: int, random: np.random.RandomState) -> list[IntArray]:
    for _ in range(_MOST_TRIES):
        held = _deal_once(labels, alpha, clients, random)
        if min(map(len, held)) >= least:
            return held
    raise TaskError(
        f"partition.alpha = {alpha:g}: not every one of {clients} clients has {least} examples in {_MOST_TRIES} "
        "tries: expected a larger one, or fewer clients"
    )


def _deal_once(labels: IntArray, alpha: float, clients: int, random: np.random.RandomState) -> list[IntArray]:
    parts: list[list[IntArray]] = [[] for _ in range(clients)]
    sizes = np.zeros(clients, dtype=np.int64)
    for label in np.unique(labels):
        found = np.flatnonzero(labels == label)
        random.shuffle(found)
        proportions = random.dirichlet(np.repeat(alpha, clients)) * (sizes < len(labels) / clients)
        with np.errstate(invalid="ignore"):  # nobody who has a share of it is in need of more
            bounds = np.cumsum(proportions / proportions.sum()) * len(found)
        if not np.isfinite(bounds).all():
            raise TaskError(f"partition.alpha = {alpha:g}: draws proportions of 0 alone: expected a larger one")
        pieces = np.split(found, bounds.astype(np.int64)[:-1])
        for part, piece in zip(parts, pieces, strict=True):
            part.append(piece)
        sizes += [len(piece) for piece in pieces]
    return [np.concatenate(part) for part in parts]
