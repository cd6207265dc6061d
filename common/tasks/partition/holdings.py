"""What published code deals: who holds what, training and test examples, and numpy's generator of old that draws it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lotteryfl.common.errors import TaskError
from lotteryfl.common.tasks.partition.classes import IntArray


class Holdings(NamedTuple):
    """Who holds what: client k's training and test examples are the k-th."""

    train: Sequence[IntArray]
    test: Sequence[IntArray]


def legacy_generator(seed: int) -> np.random.RandomState:
    """Return the generator of `np.random.seed(seed)`, whose streams never change.

    Raises:
        TaskError: it has no such seed.
    """
    if seed >= 2**32:
        raise TaskError(
            f"seed = {seed}: expected less than 2**32 by partitions of published code, whose generator has no more"
        )
    return np.random.RandomState(seed)
