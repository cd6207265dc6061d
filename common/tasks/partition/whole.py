"""All examples dealt out: every one has one owner, and who gets what depends on how many there are."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.randomness import generator, generators
from lotteryfl.common.tasks.partition.classes import IntArray, apportion, by_class

_MOST_DRAWS = 1000
"""Of proportions that leave a client with less than it is to have."""


def class_proportions(
    settings: PartitionSettings, classes: int, clients: Iterable[int], seed: int
) -> npt.NDArray[np.float64]:
    """Draw some clients' class proportions: (clients, classes)."""
    alpha = np.full(classes, _concentration(settings))
    return np.stack([rng.dirichlet(alpha) for rng in generators(seed, "partition-proportions", clients)])


def deal_all_balanced(labels: IntArray, settings: PartitionSettings, clients: int, seed: int) -> Iterator[IntArray]:
    """Deal equally many examples, give or take one, in proportions from a Dirichlet distribution as far as these last.

    Where a class is asked for more than there is, its askers share it in proportion, and take what they lack of the
    classes that are left, in their own proportions of these (Acar et al. 2021 draw one by one, in random order).
    """
    positions = by_class(labels)
    wishes = class_proportions(settings, len(positions), range(clients), seed)
    sizes = np.array([len(part) for part in np.array_split(np.arange(len(labels)), clients)])
    available = np.array([len(found) for found in positions.values()])
    return _deal_counts(positions, _shared(wishes, sizes, available), seed)


def deal_class_by_class(labels: IntArray, settings: PartitionSettings, clients: int, seed: int) -> Iterator[IntArray]:
    """Divide every class among the clients in proportions from a Dirichlet distribution: sizes differ.

    A client that has its even share of all examples already gets none of the next class, and proportions are drawn
    again until everyone has enough (Yurochkin et al. 2019; Li et al. 2022, NIID-Bench).
    """
    positions = by_class(labels)
    rng = generator(seed, "partition-proportions")
    for _ in range(_MOST_DRAWS):
        counts = np.zeros((clients, len(positions)), dtype=np.int64)
        for column, found in enumerate(positions.values()):
            shares = rng.dirichlet(np.full(clients, _concentration(settings)))
            shares[counts.sum(axis=1) >= len(labels) / clients] = 0
            if shares.sum() > 0:
                counts[:, column] = apportion(shares, len(found))
        if counts.sum() == len(labels) and counts.sum(axis=1).min() >= settings.min_examples:
            return _deal_counts(positions, counts, seed)
    raise TaskError(
        f"partition.min_examples = {settings.min_examples}: none of {_MOST_DRAWS} draws with alpha = "
        f"{settings.alpha:g} gives each of {clients} clients as many of {len(labels)} training examples"
    )


def deal_shards(labels: IntArray, settings: PartitionSettings, clients: int, seed: int) -> Iterator[IntArray]:
    """Cut the examples, sorted by class, into shards of equal size, give or take one, and deal these (McMahan 2017)."""
    shards = clients * settings.shards_per_client
    if shards > len(labels):
        raise TaskError(
            f"partition.shards_per_client = {settings.shards_per_client}: {clients} clients have {shards} shards, and "
            f"there are {len(labels)} training examples"
        )
    rng = generator(seed, "partition-shards")
    ordered = np.concatenate([rng.permutation(found) for found in by_class(labels).values()])
    cut = np.array_split(ordered, shards)
    for own in rng.permutation(shards).reshape(clients, settings.shards_per_client):
        yield np.concatenate([cut[shard] for shard in own])


def deal_sizes(labels: IntArray, settings: PartitionSettings, clients: int, seed: int) -> Iterator[IntArray]:
    """Deal the least to everyone, and the others in shares from a Dirichlet distribution, regardless of class."""
    left = len(labels) - clients * settings.min_examples
    if left < 0:
        raise TaskError(
            f"partition.min_examples = {settings.min_examples}: there are {len(labels)} training examples for "
            f"{clients} clients"
        )
    rng = generator(seed, "partition-sizes")
    sizes = settings.min_examples + apportion(rng.dirichlet(np.full(clients, _concentration(settings))), left)
    yield from np.split(rng.permutation(len(labels)), np.cumsum(sizes)[:-1])


def _concentration(settings: PartitionSettings) -> float:
    # From 1e9 on the proportions are even; from 1e307 on numpy's sums overflow.
    return min(settings.alpha, 1e9)


def _shared(wishes: npt.NDArray[np.float64], sizes: IntArray, available: IntArray) -> IntArray:
    """Return counts (clients, classes) whose sums are `sizes` and `available`, near the wished proportions.

    Every pass uses up a class, or leaves nothing to deal.
    """
    counts = np.zeros(wishes.shape, dtype=np.int64)
    missing, left = sizes, available
    while missing.any():
        open_wishes = np.where(left > 0, wishes, 0.0)
        unwilling = open_wishes.sum(axis=1) == 0
        open_wishes[unwilling] = left
        asked = apportion(open_wishes, missing[:, np.newaxis])
        for column in np.flatnonzero(asked.sum(axis=0) > left):
            asked[:, column] = apportion(asked[:, column], int(left[column]))
        counts += asked
        missing, left = sizes - counts.sum(axis=1), available - counts.sum(axis=0)
    return counts


def _deal_counts(positions: dict[int, IntArray], counts: IntArray, seed: int) -> Iterator[IntArray]:
    """Deal so many examples of each class (columns) to each client (rows)."""
    dealt = [
        np.split(generator(seed, "partition-pool", label).permutation(found), np.cumsum(column)[:-1])
        for (label, found), column in zip(positions.items(), counts.T, strict=True)
    ]
    return (np.concatenate(parts) for parts in zip(*dealt, strict=True))
