"""Who holds which examples, with stratified validation.

Training examples are dealt like cards: from shuffled pools, without replacement across clients. A pool that
is used up is shuffled again, so that more clients than the data has room for still get equally many examples;
each example is then held about equally often, and never twice by one client. Clients are served in order: a
client's data does not depend on how many come after it.

Where all examples are dealt (class-dirichlet, shards, quantity-skew, and `examples_per_client` = 0), each has exactly
one owner, and what a client holds does depend on how many they are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.randomness import generator
from lotteryfl.common.tasks.partition.classes import IntArray, in_proportion, stratified_split
from lotteryfl.common.tasks.partition.indexfile import Listed, read_index_file
from lotteryfl.common.tasks.partition.parts import Dealt, Parts
from lotteryfl.common.tasks.partition.pools import deal_classes, deal_evenly, deal_proportions
from lotteryfl.common.tasks.partition.published import POOLED, PUBLISHED
from lotteryfl.common.tasks.partition.whole import deal_class_by_class, deal_shards, deal_sizes

Owners = tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]

_FROM_POOLS: Mapping[str, Callable[[IntArray, PartitionSettings, int, int], Dealt]] = {
    "n-class": deal_classes,
    "dirichlet": deal_proportions,
    "iid": deal_evenly,
    "feature-skew": deal_evenly,
}

_WHOLE: Mapping[str, Callable[[IntArray, PartitionSettings, int, int], Iterator[IntArray]]] = {
    "class-dirichlet": deal_class_by_class,
    "shards": deal_shards,
    "quantity-skew": deal_sizes,
}

_REGARDLESS_OF_CLASS = ("iid", "feature-skew", "quantity-skew")


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
    Its test set is the largest one with the same proportions. With `examples_per_client` = 0 all examples are dealt,
    to every client as many.

    class-dirichlet: every class is divided in proportions from Dirichlet(alpha); everyone has `min_examples`, and sizes
    differ. Tested as in dirichlet.

    shards: the examples sorted by class, in equal shards, of which everyone gets `shards_per_client`. Tested as in
    dirichlet.

    iid: `examples_per_client` examples regardless of class, or, 0, all in equal parts. Its test set is the whole test
    set.

    quantity-skew: everyone has `min_examples` and a share from Dirichlet(alpha) of the others, regardless of class. Its
    test set is the whole test set.

    feature-skew: the examples of iid, but every client sees its own turned by `angle`.

    as-ssfl, as-dispfl, as-pfllib, as-fedpruning, as-lotteryfl, as-flasc: what that published code deals, training and
    test examples; with as-pfllib indices are of both together, the test data's after the others (`pooled`).

    file: what the index file says; what it does not say of validation and test examples is as in dirichlet.

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
            self._dealt: Dealt = _Owned(train_owners, self._owner)
        elif settings.kind == "file":
            sizes = len(self._train_labels), len(self._test_labels)
            self._listed = read_index_file(Path(settings.file), settings.sha256, clients, *sizes)
            self._dealt = _Listed(self._listed)
        elif settings.kind in PUBLISHED:
            if self.pooled:
                self._train_labels = np.concatenate([self._train_labels, self._test_labels])
            holdings = PUBLISHED[settings.kind](self._train_labels, self._test_labels, settings, clients, seed)
            self._dealt, self._tests = Parts(holdings.train), Parts(holdings.test)
        elif settings.kind in _WHOLE:
            self._dealt = Parts(_WHOLE[settings.kind](self._train_labels, settings, clients, seed))
        else:
            self._dealt = _FROM_POOLS[settings.kind](self._train_labels, settings, clients, seed)
        self._clients = clients

    def client(self, client: int) -> ClientIndices:
        """Return the examples of one client.

        Raises:
            ValueError: there is no such client.
            TaskError: its training, validation or test set is empty.
        """
        if not 0 <= client < self._clients:
            raise ValueError(f"client = {client}: expected 0 to {self._clients - 1}")
        held = self._dealt.of(client)
        labels = self._train_labels[held]
        train = validation = np.arange(len(held))
        if share := self._settings.validation_share:
            train, validation = stratified_split(labels, share, generator(self._seed, "partition-validation", client))
        indices = ClientIndices(held[train], held[validation], self._test_indices(client, labels))
        if self._settings.kind == "file":
            indices = self._as_listed(self._listed[client], indices)
        for name, part in (
            ("training", indices.train),
            ("validation", indices.validation),
            ("test", indices.test),
        ):
            if len(part) == 0:
                dealt = f"{len(held)} training examples of {len(np.unique(labels))} classes"
                raise TaskError(f"client {client} holds no {name} examples; it was dealt {dealt}")
        return indices

    @property
    def validates_on_training(self) -> bool:
        """Whether clients have no validation examples but those that they train on."""
        return self._settings.validation_share == 0 and self._settings.kind != "file"

    @property
    def pooled(self) -> bool:
        """Whether all indices are of training and test examples together, the test data's after the others."""
        return self._settings.kind in POOLED

    def angle(self, client: int) -> float:
        """Return by how many degrees a client's inputs are turned, counter-clockwise: 0 unless feature-skew."""
        if self._settings.kind != "feature-skew":
            return 0.0
        return client % self._settings.rotations * 360 / self._settings.rotations

    def _as_listed(self, listed: Listed, chosen: ClientIndices) -> ClientIndices:
        """Return what the index file says, and what is chosen where it says nothing."""
        test = chosen.test if listed.test is None else listed.test
        if listed.validation is None:
            return ClientIndices(chosen.train, chosen.validation, test)
        return ClientIndices(listed.train, listed.validation, test)

    def _test_indices(self, client: int, held_labels: IntArray) -> IntArray:
        if self._settings.kind in _REGARDLESS_OF_CLASS:
            return np.arange(len(self._test_labels))
        if self._settings.kind in PUBLISHED:
            return self._tests.of(client)
        if self._settings.kind == "natural":
            return np.flatnonzero(self._test_owners == self._owner[client])
        if self._settings.kind == "n-class":
            return np.flatnonzero(np.isin(self._test_labels, held_labels))
        rng = generator(self._seed, "partition-test", client)
        return in_proportion(self._test_labels, held_labels, rng)


class _Owned(NamedTuple):
    """What the data's own owners hold."""

    owners: IntArray
    """Who each example is from."""
    chosen: IntArray
    """The owner that each client is."""

    def of(self, client: int) -> IntArray:
        """Return what a client holds."""
        return np.flatnonzero(self.owners == self.chosen[client])


class _Listed(NamedTuple):
    """What an index file says."""

    listed: Sequence[Listed]

    def of(self, client: int) -> IntArray:
        """Return what a client holds."""
        return self.listed[client].held


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
