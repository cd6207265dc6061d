"""Some of a data set's examples, by their indices or drawn from a seed."""

from typing import Any

import numpy as np
from torch.utils.data import Dataset, Subset, TensorDataset

from lotteryfl.common.tasks.partition import IntArray


def draw_indices(size: int, count: int, seed: int) -> IntArray:
    """Return `count` of the indices below `size`, ascending, drawn without replacement; all, where there are fewer."""
    if count >= size:
        return np.arange(size)
    return np.sort(np.random.Generator(np.random.PCG64(seed)).choice(size, count, replace=False))


def draw_examples(data: Dataset[Any], count: int, seed: int) -> Dataset[Any]:
    """Return `count` examples of a map-style data set in their order; all, where there are fewer."""
    size = len(data)  # type: ignore[arg-type]
    if count >= size:
        return data
    return take(data, draw_indices(size, count, seed))


def take(data: Dataset[Any], indices: IntArray) -> Dataset[Any]:
    """Return the examples of a map-style data set at these indices, in their order."""
    if type(data) is TensorDataset:  # stays one: those are evaluated without a loader
        return TensorDataset(*data[indices])
    return Subset(data, indices.tolist())
