"""Partitions as published code deals them, against that code's steps taken one after the other.

Derived again from github.com/riohib/SSFL at 83fc11da, data_preprocessing/partition_utils.py, and
github.com/rong-dai/DisPFL at e2f47d4a, fedml_api/data_preprocessing/cifar10/data_loader.py, none of whose text is here:
each draw is made there by the same call of numpy's, of the same generator, in the same order.
"""

import math
from typing import Any

import numpy as np
import pytest

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.tasks import load_task
from lotteryfl.common.tasks.partition import ClientIndices, Partition
from lotteryfl.server.results.holdings import holdings

CLASSES = 5
TRAIN = np.random.default_rng(3).permutation(np.repeat(np.arange(CLASSES), [80, 120, 100, 60, 143]))
TEST = np.random.default_rng(4).permutation(np.repeat(np.arange(CLASSES), 37))
Dealt = tuple[list[list[int]], list[list[int]]]


def ssfl(clients: int, alpha: float, seed: int) -> Dealt:
    random = np.random.RandomState(seed)
    sizes = [len(TRAIN) // clients + (client < len(TRAIN) % clients) for client in range(clients)]
    priors = random.dirichlet([alpha] * CLASSES, clients)
    pools = [[int(index) for index in np.where(label == TRAIN)[0]] for label in range(CLASSES)]
    for pool in pools:
        random.shuffle(pool)
    turns = [client for client in range(clients) for _ in range(sizes[client])]
    order = np.array(turns)
    random.shuffle(order)
    held: list[list[int]] = [[] for _ in range(clients)]
    for client in order:
        open_ = [label for label in range(CLASSES) if pools[label]]
        share = priors[client][open_]
        label = random.choice(open_, p=share / np.sum(share))
        held[client].append(pools[label].pop())
    tests: list[list[int]] = [[] for _ in range(clients)]
    for label in range(CLASSES):
        own = np.array([np.sum(TRAIN[part] == label) for part in held])
        found = np.where(label == TEST)[0]
        shares = (own / np.sum(own) * len(found)).astype(int)
        for client in range(len(found) - int(np.sum(shares))):
            shares[client] += 1
        for client in range(clients):
            begin = int(np.sum(shares[:client]))
            tests[client] += found[begin : begin + shares[client]].tolist()
    return held, tests


def dispfl(clients: int, alpha: float, seed: int) -> Dealt:
    random = np.random.RandomState(seed)
    drawn = random.lognormal(mean=np.log(len(TRAIN) / clients), sigma=0, size=clients)
    missing = (drawn / np.sum(drawn) * len(TRAIN)).astype(int)
    bounds = np.cumsum(random.dirichlet([alpha] * CLASSES, clients), axis=1)
    indices = [np.where(label == TRAIN)[0] for label in range(CLASSES)]
    left = [len(own) for own in indices]
    held: list[list[int]] = [[] for _ in range(clients)]
    while np.sum(missing):
        client = random.randint(clients)
        if missing[client] == 0:
            continue
        missing[client] -= 1
        label = int(np.argmax(random.uniform() <= bounds[client]))
        while left[label] == 0:
            label = int(np.argmax(random.uniform() <= bounds[client]))
        left[label] -= 1
        held[client].append(int(indices[label][left[label]]))
    each = math.ceil(len(TEST) / clients)
    tests: list[list[int]] = []
    for part in held:
        own: list[int] = []
        for label in range(CLASSES):
            found = np.where(label == TEST)[0]
            shuffled = found[random.permutation(len(found))]
            own += shuffled[: math.ceil(np.sum(TRAIN[part] == label) / len(part) * each)].tolist()
        tests.append(own)
    return held, tests


def deal(kind: Any, clients: int = 7, alpha: float = 0.5, seed: int = 550, **keys: Any) -> list[ClientIndices]:
    settings = PartitionSettings(kind=kind, alpha=alpha, validation_share=0, **keys)
    partition = Partition(TRAIN, TEST, settings, clients, seed)
    return [partition.client(client) for client in range(clients)]


@pytest.mark.parametrize("seed", [550, 2022, 1])
@pytest.mark.parametrize("clients", [4, 7])
@pytest.mark.parametrize(("kind", "derived"), [("as-ssfl", ssfl), ("as-dispfl", dispfl)])
def test_the_same_seed_deals_the_same_examples(kind: str, derived: Any, clients: int, seed: int) -> None:
    train, test = derived(clients, 0.5, seed)
    dealt = deal(kind, clients, seed=seed)
    assert [client.train.tolist() for client in dealt] == train
    assert [client.test.tolist() for client in dealt] == test


def test_as_ssfl_every_example_has_one_owner() -> None:
    dealt = deal("as-ssfl")
    assert sorted(np.concatenate([client.train for client in dealt])) == list(range(len(TRAIN)))
    assert sorted(np.concatenate([client.test for client in dealt])) == list(range(len(TEST)))


def test_what_published_code_never_ends_with_is_an_error_here() -> None:
    with pytest.raises(
        TaskError, match=r"draws no class that is left in 200 draws for every example: expected a larger"
    ):
        deal("as-dispfl", 30, alpha=0.01, seed=0)
    with pytest.raises(
        TaskError, match=r"^client \d+'s proportions of the classes that are left are 0: expected a larger"
    ):
        deal("as-ssfl", 30, alpha=1e-4, seed=0)


def test_its_generator_has_seeds_of_32_bits() -> None:
    with pytest.raises(
        TaskError, match=r"^seed = 4294967296: expected less than 2\*\*32 by partitions of published code"
    ):
        deal("as-ssfl", seed=2**32)


def test_where_nothing_is_put_aside_the_training_examples_are_the_validation_data() -> None:
    for client in deal("class-dirichlet", 4, alpha=5.0):
        np.testing.assert_array_equal(client.train, client.validation)
    whole = {"kind": "class-dirichlet", "alpha": 5.0, "validation_share": 0.0}
    experiment = Experiment.model_validate({"clients": 4, "clients_per_round": 4, "partition": whole})
    task = load_task(experiment)
    data = task.client_data(1)
    assert data.validation is data.train
    held = holdings(task, 4)
    assert held.counts.sum() == held.sizes[:, 0].sum() == 1347
    assert not held.sizes[:, 1].any()
