"""LotteryFL's partition as its official code deals it: a few classes each, and a few examples of each of them."""

import numpy as np

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.tasks.partition.classes import IntArray
from lotteryfl.common.tasks.partition.holdings import Holdings, legacy_generator


def deal_as_lotteryfl(
    train: IntArray, test: IntArray, settings: PartitionSettings, clients: int, seed: int
) -> Holdings:
    """Cut the training examples in the order of their classes into shards; everyone draws some, one after the other.

    Of all shards but the first a share of `balance` counts. The first nine tenths of a client's examples are trained
    on, and the rest is left aside. The test examples are cut in the order of their classes too, into as many equal
    parts as there are classes: of a class that a client holds it has the part of this number, which is that class where
    all have as many (github.com/charleslipku/LotteryFL at 6b05c9c2, src/sampling.py and src/update.py, whose own
    generator has no seed). Shards of one draw come in the order of CPython's sets, as there. Of equal labels the order
    is the data's; the sort there leaves it open.

    Raises:
        TaskError: there are fewer shards than are drawn.
    """
    random, size, each = legacy_generator(seed), settings.examples_per_class, settings.classes_per_client
    left = list(range(len(train) // size))
    if clients * each > len(left):
        raise TaskError(
            f"partition.classes_per_client = {each}: {clients} clients need {clients * each} shards of "
            f"{size} examples, and there are {len(left)}"
        )
    order, tests = np.argsort(train, kind="stable"), np.argsort(test, kind="stable")
    part_of_test = len(test) // len(np.unique(train))
    held, tested = [], []
    for _ in range(clients):
        drawn = set(random.choice(left, each, replace=False).tolist())
        left = list(set(left) - drawn)
        ends = [int((shard + (settings.balance if place else 1)) * size) for place, shard in enumerate(drawn)]
        own = np.concatenate([order[shard * size : end] for shard, end in zip(drawn, ends, strict=True)])
        held.append(own[: int(0.9 * len(own))])
        classes = set(train[own].tolist())
        tested.append(np.concatenate([tests[part_of_test * label : part_of_test * (label + 1)] for label in classes]))
    return Holdings(held, tested)
