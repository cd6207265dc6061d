"""Who holds which examples: n-class, Dirichlet, IID, feature-skew and natural partitions with stratified validation.

Training examples are dealt like cards: from shuffled pools, without replacement across clients. A pool that
is used up is shuffled again, so that more clients than the data has room for still get equally many examples;
each example is then held about equally often, and never twice by one client. Clients are served in order: a
client's data does not depend on how many come after it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.randomness import generator

IntArray = npt.NDArray[np.int64]
_Held = npt.NDArray[np.int32]
"""What is kept of all clients, in half of the memory."""

Owners = tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]


@dataclass(frozen=True)
class ClientIndices:
    """One client's examples; `train` and `validation` index the training data, `test` the test data."""

    train: IntArray
    validation: IntArray
    test: IntArray


class Partition:
    """The whole data set dealt out to clients 0 … clients - 1; the same for the same arguments, always.

    n-class: every client holds `classes_per_client` distinct classes, `examples_per_class` examples of the
    first and round(balance * examples_per_class) of each other; every class is held by equally many clients,
    give or take one. A client's test set is all test examples of its classes.

    dirichlet: every client holds `examples_per_client` examples, in class proportions from Dirichlet(alpha).
    Its test set is the largest one with the same proportions.

    iid: `examples_per_client` examples regardless of class. Its test set is the whole test set.

    feature-skew: the examples of iid, but every client sees its own turned by `angle`.

    natural: every client is one of the data's own owners, drawn without replacement, and holds all of its examples.

    Args:
        train_labels: integers (examples,), the classes of the training data.
        test_labels: integers (examples,), the classes of the test data.
        settings: kind and sizes.
        clients: how many.
        seed: the run's.
        owners: integers (examples,) for training and test data: who each example is from. Only natural needs them.

    Raises:
        TaskError: the data cannot give a client what the settings ask for.
    """

    def __init__(
        self,
        train_labels: npt.NDArray[np.integer],
        test_labels: npt.NDArray[np.integer],
        settings: PartitionSettings,
        clients: int,
        seed: int,
        owners: Owners | None = None,
    ) -> None:
        self._train_labels = np.asarray(train_labels, dtype=np.int64)
        self._test_labels = np.asarray(test_labels, dtype=np.int64)
        self._settings = settings
        self._seed = seed
        if settings.kind == "natural":
            train_owners, self._test_owners = _checked_owners(owners, self._train_labels, self._test_labels)
            self._owner = _choose_owners(train_owners, clients, seed)
            dealt: Iterable[IntArray] = (np.flatnonzero(train_owners == owner) for owner in self._owner)
        else:
            dealt = _DEALERS[settings.kind](self._train_labels, settings, clients, seed)
        # Copies: a view would keep the whole pool that it was dealt from.
        self._held: list[_Held] = [indices.astype(np.int32) for indices in dealt]

    def client(self, client: int) -> ClientIndices:
        """Return the examples of one client.

        Raises:
            ValueError: there is no such client.
            TaskError: its training, validation or test set is empty.
        """
        if not 0 <= client < len(self._held):
            raise ValueError(f"client = {client}: expected 0 to {len(self._held) - 1}")
        held = self._held[client].astype(np.int64)
        labels = self._train_labels[held]
        rng = generator(self._seed, "partition-validation", client)
        train, validation = stratified_split(labels, self._settings.validation_share, rng)
        indices = ClientIndices(held[train], held[validation], self._test_indices(client, labels))
        for name, part in (
            ("training", indices.train),
            ("validation", indices.validation),
            ("test", indices.test),
        ):
            if len(part) == 0:
                dealt = f"{len(held)} training examples of {len(np.unique(labels))} classes"
                raise TaskError(f"client {client} holds no {name} examples; it was dealt {dealt}")
        return indices

    def angle(self, client: int) -> float:
        """Return by how many degrees a client's inputs are turned, counter-clockwise: 0 unless feature-skew."""
        if self._settings.kind != "feature-skew":
            return 0.0
        return client % self._settings.rotations * 360 / self._settings.rotations

    def _test_indices(self, client: int, held_labels: IntArray) -> IntArray:
        if self._settings.kind in ("iid", "feature-skew"):
            return np.arange(len(self._test_labels))
        if self._settings.kind == "natural":
            return np.flatnonzero(self._test_owners == self._owner[client])
        if self._settings.kind == "n-class":
            return np.flatnonzero(np.isin(self._test_labels, held_labels))
        rng = generator(self._seed, "partition-test", client)
        return _in_proportion(self._test_labels, held_labels, rng)


def stratified_split(
    labels: npt.NDArray[np.integer], share: float, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Split positions 0 … len(labels) - 1 in two, class by class.

    The second part holds round(share * m) of a class of m ≥ 2 examples, but at least one and at most m - 1:
    every class stays in the first part, where a class of one example is too.

    Returns:
        The positions of both parts, each in ascending order.
    """
    second = [np.empty(0, dtype=np.int64)]
    for positions in _by_class(labels).values():
        size = min(max(1, round(share * len(positions))), len(positions) - 1)
        second.append(rng.permutation(positions)[:size])
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[np.concatenate(second)] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _deal_classes(labels: IntArray, settings: PartitionSettings, clients: int, seed: int) -> Iterator[IntArray]:
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


def _deal_proportions(labels: IntArray, settings: PartitionSettings, clients: int, seed: int) -> Iterator[IntArray]:
    pools = _class_pools(labels, seed)
    # From 1e9 on the proportions are even; from 1e307 on numpy's sums overflow.
    concentration = np.full(len(pools), min(settings.alpha, 1e9))
    for client in range(clients):
        proportions = generator(seed, "partition-proportions", client).dirichlet(concentration)
        counts = _apportion(proportions, settings.examples_per_client)
        yield _draw(pools, dict(zip(pools, counts.tolist(), strict=True)), client)


def _deal_evenly(labels: IntArray, settings: PartitionSettings, clients: int, seed: int) -> Iterator[IntArray]:
    wanted = settings.examples_per_client
    if wanted > len(labels):
        raise TaskError(f"partition.examples_per_client = {wanted}: there are {len(labels)} training examples")
    pool = _Pool(np.arange(len(labels)), generator(seed, "partition-pool"))
    for _ in range(clients):
        yield pool.draw(wanted)


_DEALERS = {
    "n-class": _deal_classes,
    "dirichlet": _deal_proportions,
    "iid": _deal_evenly,
    "feature-skew": _deal_evenly,
}


def _checked_owners(owners: Owners | None, train: IntArray, test: IntArray) -> tuple[IntArray, IntArray]:
    if owners is None:
        raise TaskError("partition.kind = 'natural': this data does not say who owns which example")
    train_owners, test_owners = (np.asarray(part, dtype=np.int64) for part in owners)
    for name, part, labels in (("training", train_owners, train), ("test", test_owners, test)):
        if part.shape != labels.shape:
            raise ValueError(f"owners of the {name} data: shape {part.shape}, expected {labels.shape}")
    return train_owners, test_owners


def _choose_owners(owners: IntArray, clients: int, seed: int) -> IntArray:
    known = np.unique(owners)
    if clients > len(known):
        raise TaskError(f"clients = {clients}: partition.kind = 'natural' has one for each of the {len(known)} owners")
    return generator(seed, "partition-owners").permutation(known)[:clients]


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
        for label, positions in _by_class(labels).items()
    }


def _draw(pools: Mapping[int, _Pool], counts: Mapping[int, int], client: int) -> IntArray:
    for label, count in counts.items():
        available = len(pools[label].items)
        if count > available:
            raise TaskError(
                f"client {client} needs {count} training examples of class {label}: the data has {available}"
            )
    return np.concatenate([pools[label].draw(count) for label, count in counts.items()])


def _in_proportion(labels: IntArray, model: IntArray, rng: np.random.Generator) -> IntArray:
    """Choose as many of `labels` as have the class proportions of `model`; return their positions."""
    classes, weights = np.unique(model, return_counts=True)
    available = [np.flatnonzero(labels == label) for label in classes]
    total = min(len(found) * len(model) // weight for found, weight in zip(available, weights, strict=True))
    counts = _apportion(weights, int(total))
    chosen = [rng.permutation(found)[:count] for found, count in zip(available, counts, strict=True)]
    return np.sort(np.concatenate(chosen))


def _apportion(weights: npt.NDArray[np.floating | np.integer], total: int) -> IntArray:
    """Divide `total` in proportion to `weights` into integers, by largest remainder."""
    exact: npt.NDArray[np.float64] = weights * total / weights.sum()
    counts = np.floor(exact).astype(np.int64)
    short = total - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:short]] += 1
    return counts


def _by_class(labels: npt.NDArray[np.integer]) -> dict[int, IntArray]:
    order = np.argsort(labels, kind="stable")
    classes, starts = np.unique(labels[order], return_index=True)
    return dict(zip(classes.tolist(), np.split(order, starts[1:]), strict=True)) if len(order) else {}
