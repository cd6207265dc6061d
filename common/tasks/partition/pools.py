"""Pools of examples that are dealt like cards, each client for itself."""

from collections.abc import Mapping, Sequence

import numpy as np

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.randomness import generator
from lotteryfl.common.tasks.partition.classes import IntArray, apportion, by_class
from lotteryfl.common.tasks.partition.decks import Decks
from lotteryfl.common.tasks.partition.parts import Dealt, Parts
from lotteryfl.common.tasks.partition.whole import class_proportions, deal_all_balanced

_BLOCK = 4096
"""Clients whose counts of every class are in memory at once."""


def deal_classes(labels: IntArray, settings: PartitionSettings, clients: int, seed: int) -> Dealt:
    """Deal distinct classes, so many examples of each (n-class)."""
    positions = by_class(labels)
    wanted, first = settings.classes_per_client, settings.examples_per_class
    if wanted > len(positions):
        raise TaskError(f"partition.classes_per_client = {wanted}: the data has {len(positions)} classes")
    others = round(settings.balance * first)
    if others == 0 and wanted > 1:
        raise TaskError(
            f"partition.balance = {settings.balance} of examples_per_class = {first}: "
            "no example is left of a client's other classes"
        )
    names = np.arange(clients)
    classes = Decks(np.arange(len(positions)), generator(seed, "partition-classes"), names, np.full(clients, wanted))
    own = classes.all()  # places in `positions`, client after client
    counts = np.where(np.arange(len(own)) % wanted == 0, first, others)
    available = np.array([len(found) for found in positions.values()])
    labelled = list(positions)
    for place in np.flatnonzero(counts > available[own])[:1].tolist():
        _check_enough(place // wanted, labelled[own[place]], int(counts[place]), int(available[own[place]]))
    pools = []
    for number, (label, found) in enumerate(positions.items()):
        places = np.flatnonzero(own == number)
        pools.append(Decks(found, generator(seed, "partition-pool", label), places // wanted, counts[places]))
    return _FromPools(pools, own.reshape(clients, wanted))


def deal_proportions(labels: IntArray, settings: PartitionSettings, clients: int, seed: int) -> Dealt:
    """Deal equally many examples in class proportions from a Dirichlet distribution; 0 of each: all there are."""
    if not settings.examples_per_client:
        return Parts(deal_all_balanced(labels, settings, clients, seed))
    positions = by_class(labels)
    blocks: list[tuple[list[IntArray], list[IntArray]]] = [([], []) for _ in positions]
    for begin in range(0, clients, _BLOCK):
        block = _counts(positions, settings, range(begin, min(begin + _BLOCK, clients)), seed)
        for (holders, numbers), column in zip(blocks, block.T, strict=True):
            among = np.flatnonzero(column)
            holders.append(among + begin)
            numbers.append(column[among])
    pools = [
        Decks(found, generator(seed, "partition-pool", label), np.concatenate(holders), np.concatenate(numbers))
        for (label, found), (holders, numbers) in zip(positions.items(), blocks, strict=True)
    ]
    return _FromPools(pools, np.broadcast_to(np.arange(len(pools)), (clients, len(pools))))


def deal_evenly(labels: IntArray, settings: PartitionSettings, clients: int, seed: int) -> Dealt:
    """Deal equally many examples regardless of class; 0 of each: all there are."""
    wanted = settings.examples_per_client
    if not wanted:
        return Parts(np.array_split(generator(seed, "partition-pool").permutation(len(labels)), clients))
    if wanted > len(labels):
        raise TaskError(f"partition.examples_per_client = {wanted}: there are {len(labels)} training examples")
    return Decks(
        np.arange(len(labels)), generator(seed, "partition-pool"), np.arange(clients), np.full(clients, wanted)
    )


class _FromPools:
    """What clients hold of several pools."""

    def __init__(self, pools: Sequence[Decks], own: IntArray) -> None:
        """Set which pools (columns, in order) each client (rows) draws from."""
        self._pools = pools
        self._own = own

    def of(self, client: int) -> IntArray:
        """Return what a client was dealt."""
        return np.concatenate([self._pools[pool].of(client) for pool in self._own[client].tolist()])


def _counts(positions: Mapping[int, IntArray], settings: PartitionSettings, clients: range, seed: int) -> IntArray:
    """Return how many examples of each class (columns) some clients (rows) are to have."""
    counts = apportion(class_proportions(settings, len(positions), clients, seed), settings.examples_per_client)
    available = np.array([len(found) for found in positions.values()])
    for row, column in np.argwhere(counts > available)[:1].tolist():
        _check_enough(clients[row], list(positions)[column], int(counts[row, column]), int(available[column]))
    return counts


def _check_enough(client: int, label: int, count: int, available: int) -> None:
    if count > available:
        raise TaskError(f"client {client} needs {count} training examples of class {label}: the data has {available}")
