"""Partitions that deal all examples out."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.tasks.partition import ClientIndices, Partition

WHOLE: list[dict[str, Any]] = [
    {"kind": "dirichlet", "examples_per_client": 0},
    {"kind": "class-dirichlet", "min_examples": 11},
    {"kind": "shards", "shards_per_client": 3},
    {"kind": "iid", "examples_per_client": 0},
    {"kind": "feature-skew", "examples_per_client": 0},
    {"kind": "quantity-skew", "min_examples": 11},
]


def labels_of(per_class: int, classes: int = 10) -> np.ndarray:
    return np.random.default_rng(7).permutation(np.repeat(np.arange(classes), per_class))


TRAIN, TEST = labels_of(100), labels_of(25)


def deal(clients: int = 20, seed: int = 0, train: np.ndarray = TRAIN, **keys: Any) -> list[ClientIndices]:
    partition = Partition(train, TEST, PartitionSettings(**keys), clients, seed)
    return [partition.client(client) for client in range(clients)]


def held(client: ClientIndices) -> np.ndarray:
    return np.concatenate([client.train, client.validation])


@pytest.mark.parametrize("keys", WHOLE)
@pytest.mark.parametrize("clients", [1, 7, 20])
def test_every_example_has_one_owner(keys: dict[str, Any], clients: int) -> None:
    dealt = deal(clients, **keys)
    np.testing.assert_array_equal(np.sort(np.concatenate([held(client) for client in dealt])), np.arange(len(TRAIN)))
    assert all(len(client.train) and len(client.validation) and len(client.test) for client in dealt)


@pytest.mark.parametrize("keys", WHOLE)
def test_the_seed_alone_decides(keys: dict[str, Any]) -> None:
    first, again, other = (deal(seed=seed, **keys) for seed in (3, 3, 4))
    assert all(np.array_equal(held(one), held(two)) for one, two in zip(first, again, strict=True))
    assert not all(np.array_equal(held(one), held(two)) for one, two in zip(first, other, strict=True))


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(10, 60), min_size=1, max_size=6),
    clients=st.integers(1, 12),
    alpha=st.floats(1e-3, 1e3),
    seed=st.integers(0, 1000),
)
def test_a_balanced_dirichlet_gives_everyone_as_many(sizes: list[int], clients: int, alpha: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    keys = {"kind": "dirichlet", "examples_per_client": 0, "alpha": alpha, "validation_share": 0.1}
    partition = Partition(labels, labels, PartitionSettings(**keys), clients, seed)
    counts = []
    for client in range(clients):
        try:
            counts.append(len(held(partition.client(client))))
        except TaskError as error:  # of a few examples of as many classes
            assert "holds no" in str(error)  # noqa: PT017 - or there is none
    assert not counts or max(counts) - min(counts) <= 1


@pytest.mark.parametrize("kind", ["dirichlet", "class-dirichlet"])
def test_a_small_alpha_is_more_skewed(kind: Any) -> None:
    def largest_share(alpha: float) -> float:
        dealt = deal(10, kind=kind, alpha=alpha, examples_per_client=0, min_examples=2)
        return float(np.mean([np.bincount(TRAIN[held(client)]).max() / len(held(client)) for client in dealt]))

    assert largest_share(0.05) > 0.5 > largest_share(1) > 0.2 > largest_share(1000)


@pytest.mark.parametrize("kind", ["class-dirichlet", "quantity-skew"])
def test_sizes_differ_and_nobody_has_less_than_the_least(kind: Any) -> None:
    for seed in range(5):
        sizes = [len(held(client)) for client in deal(10, seed, kind=kind, alpha=0.5, min_examples=20)]
        assert min(sizes) >= 20
        assert max(sizes) > 1.3 * min(sizes)


def test_a_client_of_few_shards_has_few_classes() -> None:
    dealt = deal(20, kind="shards", shards_per_client=2)  # 40 shards of 25, four to a class
    assert {len(held(client)) for client in dealt} == {50}
    assert max(len(np.unique(TRAIN[held(client)])) for client in dealt) == 2


def test_shards_and_classes_are_tested_as_they_are_mixed() -> None:
    for keys in WHOLE[1:3]:
        for client in deal(10, **keys):
            wanted = np.bincount(TRAIN[held(client)], minlength=10) / len(held(client))
            tested = np.bincount(TEST[client.test], minlength=10)
            assert np.abs(tested - wanted * len(client.test)).max() < 1


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "class-dirichlet", "min_examples": 51}, "partition.min_examples = 51: none of 1000 draws with alpha"),
        (
            {"kind": "quantity-skew", "min_examples": 51},
            "partition.min_examples = 51: there are 1000 training examples",
        ),
        ({"kind": "shards", "shards_per_client": 51}, "partition.shards_per_client = 51: 20 clients have 1020 shards"),
    ],
)
def test_what_cannot_be_dealt_is_said(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        deal(**keys)
