"""Data as people give them to `train` and `evaluate`, as one kind of data set."""

from collections.abc import Iterator, Mapping, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from lotteryfl.common.arrays import to_tensor
from lotteryfl.common.training.structure import Rows

Data = Dataset[Any] | tuple[Any, ...] | list[Any] | Mapping[str, Any]
"""A map-style data set or a list of examples; or, in memory, the inputs (N, ...) and labels (N,) themselves, a pair of
tensors, numpy arrays or lists, labels being classes from 0, as integers. With an objective also a longer tuple or a
dict of such, and labels of any kind. An iterable data set needs a length, in examples, or `steps_per_epoch`."""


def dataset_of(data: Data, *, labelled: bool = True) -> Dataset[Any]:
    """Return the examples as a data set that is not empty: map-style, or a stream; tensors as a TensorDataset or Rows.

    Args:
        data: see `Data`.
        labelled: they are classified: what is in memory is a pair.

    Raises:
        TypeError: it is nothing of the kind.
        ValueError: no examples, or inputs and labels do not go together.
    """
    if isinstance(data, Mapping) and not labelled:
        data = _rows(dict(data))
    elif isinstance(data, tuple) and len(data) > 2 and not labelled:
        data = _rows(dict(enumerate(data)))
    elif isinstance(data, tuple) or _is_pair(data):
        data = _paired(data)
    if isinstance(data, DataLoader):
        raise TypeError("data: a DataLoader: expected its data set (loader.dataset), of which batches are made here")
    if is_stream(data):
        stream_length(data, 1)
        return data  # type: ignore[return-value]
    if not isinstance(data, Sized):
        raise TypeError(f"data: {type(data).__name__} has no length: expected a map-style data set")
    if isinstance(data, Tensor | Mapping) or not hasattr(data, "__getitem__"):
        raise TypeError(f"data: {type(data).__name__}: expected a map-style data set, or a pair (inputs, labels)")
    if len(data) == 0:
        raise ValueError("data: no examples")
    return data  # type: ignore[return-value] # a list has all that is asked of one


def is_stream(data: Any) -> bool:
    """Tell whether examples can only be had one after the other."""
    return isinstance(data, IterableDataset) or (hasattr(data, "__iter__") and not hasattr(data, "__getitem__"))


def stream_length(stream: Any, batch_size: int) -> int:
    """Return at most how many examples of a stream a pass over it has: its length, or `steps_per_epoch` batches.

    Raises:
        TypeError: it has neither.
        ValueError: that is not positive.
    """
    steps = getattr(stream, "steps_per_epoch", None)
    what = f"data: {type(stream).__name__}"
    if isinstance(stream, Iterator):
        raise TypeError(f"{what} can be read only once: expected an iterable data set, which begins anew for each pass")
    if steps is None and not isinstance(stream, Sized):
        raise TypeError(f"{what} has no length: expected a map-style data set, or an iterable one's steps_per_epoch")
    length = len(stream) if steps is None else steps * batch_size
    if not isinstance(length, int) or length < 1:
        raise ValueError(f"{what}: no examples" if steps is None else f"{what}: steps_per_epoch = {steps!r}")
    return length


def _is_pair(data: Any) -> bool:
    return isinstance(data, list) and len(data) == 2 and all(isinstance(part, Tensor | np.ndarray) for part in data)


def _rows(parts: dict[Any, Any]) -> Rows:
    """Return a tuple's parts by their numbers, or a dict's, as examples in memory."""
    content = {name: _tensor(str(name), part) for name, part in parts.items()}
    return Rows(tuple(content.values()) if 0 in content else content)


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
