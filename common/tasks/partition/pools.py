"""Pools of examples that are dealt like cards, each client for itself."""

from collections.abc import Iterator, Mapping

import numpy as np

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.randomness import generator
from lotteryfl.common.tasks.partition.classes import IntArray, apportion, by_class
from lotteryfl.common.tasks.partition.whole import class_proportions, deal_all_balanced


def deal_classes(labels: IntArray, settings: PartitionSettings, clients: int, seed: int) -> Iterator[IntArray]:
    """Deal distinct classes, so many examples of each (n-class)."""
    pools = _class_pools(labels, seed)
    wanted, first = settings.classes_per_client, settings.examples_per_class
    if wanted > len(pools):
        raise TaskError(f"partition.classes_per_client = {wanted}: the data has {len(pools)} classes")
    others = round(settings.balance * first)
    if others == 0 and wanted > 1:
        raise TaskError(
            f"partition.balance = {settings.balance} of examples_per_class = {first}: "
            "no example is left of a client's other classes"
        )
    classes = _Pool(np.array(list(pools)), generator(seed, "partition-classes"))
    for client in range(clients):
        own = classes.draw(wanted)
        counts = {int(label): others if rank else first for rank, label in enumerate(own)}
        yield _draw(pools, counts, client)


def deal_proportions(labels: IntArray, settings: PartitionSettings, clients: int, seed: int) -> Iterator[IntArray]:
    """Deal equally many examples in class proportions from a Dirichlet distribution; 0 of each: all there are."""
    if not settings.examples_per_client:
        yield from deal_all_balanced(labels, settings, clients, seed)
        return
    pools = _class_pools(labels, seed)
    for client in range(clients):
        proportions = class_proportions(settings, len(pools), client, seed)
        counts = apportion(proportions, settings.examples_per_client)
        yield _draw(pools, dict(zip(pools, counts.tolist(), strict=True)), client)


def deal_evenly(labels: IntArray, settings: PartitionSettings, clients: int, seed: int) -> Iterator[IntArray]:
    """Deal equally many examples regardless of class; 0 of each: all there are."""
    wanted = settings.examples_per_client
    if not wanted:
        yield from np.array_split(generator(seed, "partition-pool").permutation(len(labels)), clients)
        return
    if wanted > len(labels):
        raise TaskError(f"partition.examples_per_client = {wanted}: there are {len(labels)} training examples")
    pool = _Pool(np.arange(len(labels)), generator(seed, "partition-pool"))
    for _ in range(clients):
        yield pool.draw(wanted)


class _Pool:
    """Items dealt in random order, again and again; no draw holds an item twice."""

    def __init__(self, items: IntArray, rng: np.random.Generator) -> None:
        self.items = items
        self._rng = rng
        self._left = rng.permutation(items)

    def draw(self, count: int) -> IntArray:
        """Take the next `count` items, at most as many as there are."""
        drawn, self._left = self._left[:count], self._left[count:]
        missing = count - len(drawn)
        if missing == 0:
            return drawn
        again = self._rng.permutation(self.items)
        repeated = np.isin(again, drawn)
        # What this draw holds already goes last in the new order: it is not lost, but comes up later.
        self._left = np.concatenate([again[~repeated], again[repeated]])
        return np.concatenate([drawn, self.draw(missing)])


def _class_pools(labels: IntArray, seed: int) -> dict[int, _Pool]:
    return {
        label: _Pool(positions, generator(seed, "partition-pool", label))
        for label, positions in by_class(labels).items()
    }


def _draw(pools: Mapping[int, _Pool], counts: Mapping[int, int], client: int) -> IntArray:
    for label, count in counts.items():
        available = len(pools[label].items)
        if count > available:
            raise TaskError(
                f"client {client} needs {count} training examples of class {label}: the data has {available}"
            )
    return np.concatenate([pools[label].draw(count) for label, count in counts.items()])
