"""Partitions of PFLlib, FedPruning and LotteryFL, against their code's steps taken one after the other.

Derived again from github.com/TsingZ0/PFLlib at d832e76f (dataset/utils/dataset_utils.py),
github.com/FedPruning/FedPruning at 70698813 (api/data_preprocessing/cifar10/data_loader.py) and
github.com/charleslipku/LotteryFL at 6b05c9c2 (src/sampling.py, src/update.py), none of whose text is here: numpy's
global generator is seeded, and draws what it draws there in the same order.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.tasks import load_task
from lotteryfl.common.tasks.partition import ClientIndices, Partition

TRAIN = np.random.default_rng(3).permutation(np.repeat(np.arange(5), [80, 120, 100, 60, 140]))
TEST = np.random.default_rng(4).permutation(np.repeat(np.arange(5), 40))
MNIST = [6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958]
"""Images of each digit, in training and test data together."""
PRINTED = (
    [
        1972,
        374,
        1222,
        1905,
        1437,
        4641,
        942,
        951,
        2700,
        3004,
        2337,
        2829,
        2709,
        1600,
        4297,
        4086,
        2721,
        4239,
        3949,
        4577,
    ],
    [658, 125, 408, 636, 480, 1548, 314, 318, 900, 1002, 779, 943, 904, 534, 1433, 1362, 907, 1414, 1317, 1526],
)
"""Training and test examples of PFLlib's 20 clients of MNIST, Dirichlet 0.1, as its README prints them."""

Dealt = list[tuple[list[int], list[int]]]


@pytest.fixture(autouse=True)
def _global_generator() -> Iterator[None]:
    state = np.random.get_state()
    yield
    np.random.set_state(state)


def lda(labels: np.ndarray[Any, Any], clients: int, alpha: float, least: int) -> list[list[int]]:
    total, smallest = len(labels), 0
    held: list[list[int]] = []
    while smallest < least:
        held = [[] for _ in range(clients)]
        for label in range(labels.max() + 1):
            found = np.where(labels == label)[0]
            np.random.shuffle(found)
            drawn = np.random.dirichlet(np.repeat(alpha, clients))
            drawn = np.array([share * (len(own) < total / clients) for share, own in zip(drawn, held, strict=True)])
            ends = (np.cumsum(drawn / drawn.sum()) * len(found)).astype(int)[:-1]
            for own, piece in zip(held, np.split(found, ends), strict=True):
                own += piece.tolist()
        smallest = min(map(len, held))
    return held


def pfllib(clients: int, alpha: float) -> Dealt:
    labels = np.concatenate([TRAIN, TEST])
    held = lda(labels, clients, alpha, int(min(10 / 0.25, len(labels) / clients / 2)))
    parts = [train_test_split(own, train_size=0.75, shuffle=True) for own in held]
    return [(list(train), list(test)) for train, test in parts]


def fedpruning(clients: int, alpha: float) -> Dealt:
    held = lda(TRAIN, clients, alpha, 10)
    for own in held:
        np.random.shuffle(own)
    return [(own, list(range(len(TEST)))) for own in held]


def lotteryfl(clients: int, size: int, balance: float) -> Dealt:
    order, tests = np.argsort(TRAIN, kind="stable"), np.argsort(TEST, kind="stable")
    left, dealt = list(range(len(TRAIN) // size)), []
    for _ in range(clients):
        drawn = set(np.random.choice(left, 2, replace=False))
        left = list(set(left) - drawn)
        own: list[int] = []
        for place, shard in enumerate(drawn):
            end = (shard + 1) * size if place == 0 else int((shard + balance) * size)
            own += order[shard * size : end].tolist()
        classes = set(TRAIN[own].astype(float))
        tested = [int(each) for label in classes for each in tests[int(label) * 40 : int(label + 1) * 40]]
        dealt.append((own[: int(0.9 * len(own))], tested))
    return dealt


def deal(kind: str, clients: int, seed: int, **keys: Any) -> list[ClientIndices]:
    settings = PartitionSettings.model_validate({"kind": kind, "validation_share": 0, **keys})
    partition = Partition(TRAIN, TEST, settings, clients, seed)
    return [partition.client(client) for client in range(clients)]


def listed(dealt: list[ClientIndices]) -> Dealt:
    return [(client.train.tolist(), client.test.tolist()) for client in dealt]


@pytest.mark.parametrize("seed", [0, 1, 550])
@pytest.mark.parametrize("clients", [4, 7])
@pytest.mark.parametrize(("kind", "derived"), [("as-pfllib", pfllib), ("as-fedpruning", fedpruning)])
def test_the_same_seed_deals_the_same_examples(kind: str, derived: Any, clients: int, seed: int) -> None:
    np.random.seed(seed)
    assert listed(deal(kind, clients, seed, alpha=0.4)) == derived(clients, 0.4)


@pytest.mark.parametrize("seed", [0, 1, 550])
@pytest.mark.parametrize("balance", [1.0, 0.5])
def test_the_same_seed_deals_the_same_shards(balance: float, seed: int) -> None:
    np.random.seed(seed)
    dealt = deal("as-lotteryfl", 11, seed, examples_per_class=20, balance=balance)
    assert listed(dealt) == lotteryfl(11, 20, balance)


def test_pfllibs_readme_has_the_sizes_that_are_dealt_here() -> None:
    labels = np.repeat(np.arange(10), MNIST)
    settings = PartitionSettings(kind="as-pfllib", alpha=0.1, validation_share=0)
    partition = Partition(labels[:60_000], labels[60_000:], settings, 20, 1)
    dealt = [partition.client(client) for client in range(20)]
    assert tuple([len(getattr(client, part)) for client in dealt] for part in ("train", "test")) == PRINTED


def test_a_pooled_partition_deals_every_example_of_both_once() -> None:
    experiment = Experiment.model_validate(
        {"clients": 6, "clients_per_round": 6, "partition": {"kind": "as-pfllib", "alpha": 1, "validation_share": 0}}
    )
    task = load_task(experiment)
    held = [task.client_data(client) for client in range(6)]
    sizes = [len(part) for data in held for part in (data.train, data.test)]  # type: ignore[arg-type]
    assert sum(sizes) == 1797
    with pytest.raises(
        TaskError, match=r"^partition.kind = 'as-pfllib': leaves no test examples that are nobody's own$"
    ):
        task.global_test(10)


def test_what_cannot_be_dealt_is_an_error() -> None:
    with pytest.raises(
        TaskError, match=r"^partition.alpha = 0.05: not every one of 30 clients has 10 examples in 1000"
    ):
        deal("as-fedpruning", 30, 0, alpha=0.05)
    with pytest.raises(
        TaskError, match=r"^partition.classes_per_client = 2: 20 clients need 40 shards of 20 .* are 25$"
    ):
        deal("as-lotteryfl", 20, 0)
