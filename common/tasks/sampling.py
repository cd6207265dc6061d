"""Some of a data set's examples, by their indices or drawn from a seed."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from lotteryfl.common.tasks.partition import IntArray
from lotteryfl.common.training.given import is_stream, stream_length
from lotteryfl.common.training.loaded import Loaded
from lotteryfl.common.training.structure import Rows, is_tensors


def draw_indices(size: int, count: int, seed: int) -> IntArray:
    """Return `count` of the indices below `size`, ascending, drawn without replacement; all, where there are fewer."""
    if count >= size:
        return np.arange(size)
    return np.sort(np.random.Generator(np.random.PCG64(seed)).choice(size, count, replace=False))


def draw_examples(data: Dataset[Any], count: int, seed: int) -> Dataset[Any]:
    """Return `count` examples of a data set in their order, a stream's first; all, where there are fewer."""
    if isinstance(data, Loaded):
        return data.of(draw_examples(data.data, count, seed))
    if is_stream(data):
        return First(data, count)
    size = len(data)  # type: ignore[arg-type]
    if count >= size:
        return data
    return take(data, draw_indices(size, count, seed))


def draw_shuffled(data: Dataset[Any], count: int, seed: int) -> Dataset[Any]:
    """Return `count` examples of a data set in an order drawn from torch's generator, a stream's first in its own."""
    if isinstance(data, Loaded):
        return data.of(draw_shuffled(data.data, count, seed))
    if is_stream(data):
        return First(data, count)
    shuffler = torch.Generator().manual_seed(seed)
    return take(data, torch.randperm(len(data), generator=shuffler)[:count].numpy())  # type: ignore[arg-type]


def first_of(data: Dataset[Any], count: int) -> Dataset[Any]:
    """Return at most the first `count` examples of a data set, to be read by this process."""
    if isinstance(data, Loaded):
        return replace(data.of(first_of(data.data, count)), workers=0)
    if is_stream(data):
        return First(data, count)
    return take(data, np.arange(min(count, len(data))))  # type: ignore[arg-type]


class First(IterableDataset[Any]):
    """The first examples of a stream."""

    def __init__(self, stream: Dataset[Any], count: int) -> None:
        self._stream: Any = stream
        self._count = count if hasattr(stream, "steps_per_epoch") else min(count, stream_length(stream, 1))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        return islice(self._stream, self._count)


def take(data: Dataset[Any], indices: IntArray) -> Dataset[Any]:
    """Return the examples of a map-style data set at these indices, in their order."""
    if is_tensors(data):  # stays one: those are evaluated without a loader
        return TensorDataset(*data[indices])
    if type(data) is Rows:
        return Rows(data.rows(torch.from_numpy(indices)))
    return Subset(data, indices.tolist())
