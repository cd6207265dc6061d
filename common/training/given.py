"""Data as people give them to `train` and `evaluate`, as one kind of data set."""

from collections.abc import Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from lotteryfl.common.arrays import native, to_tensor

Data = Dataset[Any] | tuple[Any, Any] | list[Any]
"""A map-style data set or a list of (input, label); or the inputs (N, ...) and labels (N,) themselves, a pair of
tensors, numpy arrays or lists. Labels are classes from 0, as integers."""


def dataset_of(data: Data) -> Dataset[Any]:
    """Return the examples as a map-style data set with a length; a pair as a TensorDataset.

    Raises:
        TypeError: it is nothing of the kind.
        ValueError: no examples, or inputs and labels do not go together.
    """
    if isinstance(data, tuple) or _is_pair(data):
        data = _paired(data)
    if isinstance(data, DataLoader):
        raise TypeError("data: a DataLoader: expected its data set (loader.dataset), of which batches are made here")
    if not isinstance(data, Sized):
        raise TypeError(f"data: {type(data).__name__} has no length: expected a map-style data set")
    if not isinstance(data, Dataset | list) or isinstance(data, IterableDataset):
        raise TypeError(f"data: {type(data).__name__}: expected a map-style data set, or a pair (inputs, labels)")
    if len(data) == 0:  # type: ignore[arg-type] # it is sized, as was asked above
        raise ValueError("data: no examples")
    return data  # type: ignore[return-value] # a list has all that is asked of one


def collate(examples: list[Any]) -> Any:
    """Put examples together as torch does, arrays that lie backwards or in foreign bytes too."""
    return default_collate([_taken(example) for example in examples])


def _taken(example: Any) -> Any:
    if isinstance(example, np.ndarray):
        return native(example)
    if type(example) in (tuple, list):
        return type(example)(map(_taken, example))
    return example


def _is_pair(data: Any) -> bool:
    return isinstance(data, list) and len(data) == 2 and all(isinstance(part, Tensor | np.ndarray) for part in data)


def _paired(data: Any) -> TensorDataset:
    if len(data) != 2:
        raise TypeError(f"data: a {type(data).__name__} of {len(data)}: expected a pair (inputs, labels)")
    inputs, labels = _tensor("inputs", data[0]), _tensor("labels", data[1])
    if not isinstance(data[1], Tensor) and not labels.is_floating_point():
        labels = labels.long()
    if not (inputs.dim() and labels.dim()):
        shapes = f"inputs have shape {tuple(inputs.shape)}, labels {tuple(labels.shape)}"
        raise ValueError(f"data: {shapes}: expected a row for each example")
    if len(inputs) != len(labels):
        raise ValueError(f"data: {len(inputs)} inputs but {len(labels)} labels")
    return TensorDataset(inputs, labels)


def _tensor(what: str, values: Any) -> Tensor:
    try:
        if isinstance(values, list | tuple):
            values = torch.stack(list(values)) if _are_tensors(values) else np.asarray(values)
        if isinstance(values, Tensor | np.ndarray):
            return to_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"data: {what}: {error}") from error
    raise TypeError(f"data: {what} are {type(values).__name__}: expected a tensor, a numpy array or a list")


def _are_tensors(values: list[Any] | tuple[Any, ...]) -> bool:
    return bool(values) and all(isinstance(value, Tensor) for value in values)
