"""Partitions as published code deals them, index by index: for who reproduces that code's numbers.

Each draws what that code draws, in its order, from numpy's generator of old, whose streams never change; so the seed
that its authors name deals the same examples here. Everyone's test examples are that code's too.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.tasks.partition.classes import IntArray, by_class
from lotteryfl.common.tasks.partition.extreme import deal_as_lotteryfl
from lotteryfl.common.tasks.partition.holdings import Holdings, legacy_generator
from lotteryfl.common.tasks.partition.lda import deal_as_fedpruning, deal_as_pfllib

_MOST_DRAWS = 200
"""Draws of a class for every example, after which the code that draws them is said never to end."""


def deal_as_ssfl(train: IntArray, test: IntArray, settings: PartitionSettings, clients: int, seed: int) -> Holdings:
    """Deal equally many examples, one by one to clients in random order, each of a class by its client's proportions.

    What is used up is drawn no more. Test examples of a class are cut in the clients' order, in the proportions of
    their training examples of it (github.com/riohib/SSFL at 83fc11da, data_preprocessing/partition_utils.py).

    Raises:
        TaskError: nothing is left of the classes that a client has a proportion of.
    """
    random, pools = legacy_generator(seed), by_class(train)
    labels, columns = list(pools), list(pools.values())
    proportions = random.dirichlet(np.repeat(settings.alpha, len(labels)), size=clients)
    for pool in columns:
        random.shuffle(pool)
    sizes = [len(part) for part in np.array_split(train, clients)]
    slots = np.repeat(np.arange(clients), sizes)
    random.shuffle(slots)
    left = np.array([len(pool) for pool in columns])
    held: list[list[int]] = [[] for _ in range(clients)]
    counts = np.zeros((clients, len(labels)), dtype=np.int64)
    bounds: dict[int, tuple[IntArray, npt.NDArray[np.float64]]] = {}  # by client, while the same classes are left
    for client, drawn in zip(slots.tolist(), random.random_sample(len(slots)), strict=True):
        if client not in bounds:
            bounds[client] = _bounds(proportions[client], left, client)
        open_, cumulated = bounds[client]
        column = int(open_[cumulated.searchsorted(drawn, side="right")])
        left[column] -= 1
        held[client].append(int(columns[column][left[column]]))
        counts[client, column] += 1
        if left[column] == 0:
            bounds.clear()
    return Holdings([np.array(part, dtype=np.int64) for part in held], _cut_by_class(test, labels, counts))


def _bounds(
    proportions: npt.NDArray[np.float64], left: IntArray, client: int
) -> tuple[IntArray, npt.NDArray[np.float64]]:
    """Return the classes that are left, and up to where in [0, 1) each of them is drawn."""
    open_ = np.flatnonzero(left)
    shares = proportions[open_]
    if not shares.sum() > 0:
        raise TaskError(
            f"client {client}'s proportions of the classes that are left are 0: expected a larger partition.alpha"
        )
    cumulated = (shares / shares.sum()).cumsum()
    return open_, cumulated / cumulated[-1]


def _cut_by_class(labels: IntArray, classes: Sequence[int], counts: IntArray) -> list[IntArray]:
    """Cut every class in the proportions of the counts (clients, classes); what is over goes to the first clients."""
    parts: list[list[IntArray]] = [[] for _ in counts]
    for column, label in enumerate(classes):
        found, own = np.flatnonzero(labels == label), counts[:, column]
        sizes = (own / own.sum() * len(found)).astype(np.int64)
        sizes[: len(found) - sizes.sum()] += 1
        for part, piece in zip(parts, np.split(found, np.cumsum(sizes)[:-1]), strict=True):
            part.append(piece)
    return [np.concatenate(part) for part in parts]


def deal_as_dispfl(train: IntArray, test: IntArray, settings: PartitionSettings, clients: int, seed: int) -> Holdings:
    """Deal equally many examples, one by one to a client drawn each time, of a class drawn by its proportions.

    Of a class the last examples go first; a class that is used up is drawn again until another comes. Everyone's test
    examples are drawn anew, of each class the share of its training examples, rounded up, of as many as everyone would
    have of all (github.com/rong-dai/DisPFL at e2f47d4a, fedml_api/data_preprocessing/cifar10/data_loader.py).

    Raises:
        TaskError: some client's classes are used up but for some that it draws next to never.
    """
    random, pools = legacy_generator(seed), by_class(train)
    labels, columns = list(pools), list(pools.values())
    sizes = random.lognormal(mean=np.log(len(train) / clients), sigma=0, size=clients)
    missing = (sizes / np.sum(sizes) * len(train)).astype(int).tolist()
    proportions = random.dirichlet([settings.alpha] * len(labels), size=clients)
    bounds = np.cumsum(proportions, axis=1).tolist()
    left = [len(pool) for pool in columns]
    held: list[list[int]] = [[] for _ in range(clients)]
    counts = [[0] * len(labels) for _ in range(clients)]
    draws = _MOST_DRAWS * len(train)
    for _ in range(sum(missing)):
        while missing[client := random.randint(clients)] <= 0:
            pass
        missing[client] -= 1
        while left[column := _first_at_least(bounds[client], random.random_sample())] <= 0:
            draws -= 1
            if not draws:
                raise TaskError(
                    f"client {client} draws no class that is left in {_MOST_DRAWS} draws for every example: expected a "
                    "larger partition.alpha, or another seed"
                )
        left[column] -= 1
        held[client].append(int(columns[column][left[column]]))
        counts[client][column] += 1
    return Holdings([np.array(part, dtype=np.int64) for part in held], _drawn_tests(random, test, labels, counts))


def _first_at_least(bounds: list[float], drawn: float) -> int:
    """Return the place of the first bound that is not below what was drawn; 0, where there is none."""
    return bisect_left(bounds, drawn) % len(bounds)


def _drawn_tests(
    random: np.random.RandomState, labels: IntArray, classes: Sequence[int], counts: Sequence[Sequence[int]]
) -> list[IntArray]:
    found, each = [np.flatnonzero(labels == label) for label in classes], math.ceil(len(labels) / len(counts))
    return [
        np.concatenate(
            [
                pool[random.permutation(len(pool))[: math.ceil(count / sum(own) * each)]]
                for pool, count in zip(found, own, strict=True)
            ]
        )
        for own in counts
    ]


def deal_as_flasc(train: IntArray, test: IntArray, settings: PartitionSettings, clients: int, seed: int) -> Holdings:
    """Deal the first four fifths of the examples: of each class, in their order, by the clients' proportions of it.

    A client's proportions of the classes are from Dirichlet(alpha); those of all clients for a class are then made to
    sum up to 1. Numbers of examples are rounded, so that of a class some are left over or the last clients have fewer.
    Clients have no test examples there: here an equal part of them each, in their order. The last fifth of the others
    is nobody's; there it is validated on (github.com/imkevinkuo/flasc at 17c70635, data_utils.py).

    Raises:
        TaskError: somebody gets nothing.
    """
    own = train[: int(len(train) * 0.8)]
    pools = by_class(own)
    proportions = legacy_generator(seed).dirichlet(np.repeat(settings.alpha, len(pools)), size=clients)
    sizes = [len(pool) for pool in pools.values()]
    with np.errstate(invalid="ignore"):  # a class of which nobody has a proportion that is not 0
        counts = np.nan_to_num(proportions / proportions.sum(axis=0) * sizes).round().astype(np.int64)
    pieces = [np.split(pool, np.cumsum(counts[:, column]))[:clients] for column, pool in enumerate(pools.values())]
    held = [np.concatenate(own_pieces) for own_pieces in zip(*pieces, strict=True)]
    if empty := [client for client, part in enumerate(held) if not len(part)]:
        raise TaskError(
            f"partition.alpha = {settings.alpha:g}: client {empty[0]} of {clients} gets no example: expected a larger "
            "one, or fewer clients"
        )
    return Holdings(held, np.array_split(np.arange(len(test)), clients))


PUBLISHED: Mapping[str, Callable[[IntArray, IntArray, PartitionSettings, int, int], Holdings]] = {
    "as-ssfl": deal_as_ssfl,
    "as-dispfl": deal_as_dispfl,
    "as-pfllib": deal_as_pfllib,
    "as-fedpruning": deal_as_fedpruning,
    "as-lotteryfl": deal_as_lotteryfl,
    "as-flasc": deal_as_flasc,
}
"""`partition.kind` → what deals (training classes, test classes, settings, clients, seed)."""

POOLED = ("as-pfllib",)
"""Kinds that deal training and test examples together: their indices are of both, the test data's after the others."""
