"""One part of what a user's `client()` returns, as a data set."""

from collections.abc import Iterator, Mapping, Sized
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lotteryfl.common.arrays import to_tensor
from lotteryfl.common.errors import TaskError
from lotteryfl.common.text import kind
from lotteryfl.common.training.given import dataset_of, is_stream, stream_length
from lotteryfl.common.training.structure import Rows, Unbuilt, is_tensors


def part_of(value: Any, what: str, *, labelled: bool) -> Dataset[Any]:
    """Return a part of a client's data as a data set, which may be empty.

    Args:
        value: a map-style data set, whatever its class, a list of examples, an iterable data set with a length or
            `steps_per_epoch`, or tensors and arrays in memory: a pair, or, with an objective, a tuple or dict of them.
        what: which part of whose, for the error.
        labelled: it is classified: tensors in memory are (inputs, labels), and labels are integers (examples,).

    Raises:
        TaskError: it is none of these.
    """
    try:
        if is_stream(value):
            stream_length(value, 1)
            return value  # type: ignore[no-any-return]
        match value:
            case (Tensor() | np.ndarray() as inputs, Tensor() | np.ndarray() as labels) if labelled:
                return _labelled(inputs, labels, what)
            case Unbuilt(labels=labels) if labelled:
                _check_classes(labels, what)
        if not labelled and (isinstance(value, tuple) or _is_list_of_arrays(value) or type(value) is dict):
            return dataset_of(tuple(value) if isinstance(value, list) else value, labelled=False)
        if _is_map_style(value):
            return value  # type: ignore[no-any-return]
    except (TypeError, ValueError) as error:
        raise TaskError(f"{what}: {str(error).removeprefix('data: ')}") from error
    expected = "a map-style Dataset or a pair (inputs, labels)"
    others = ", or a task's objective" if isinstance(value, tuple | Mapping) else ""
    raise TaskError(f"{what} is {kind(value)}, expected {expected}{others}")


def is_empty(part: Dataset[Any]) -> bool:
    """Tell whether a part has no examples; of a stream, whether it says so."""
    return not is_stream(part) and len(part) == 0  # type: ignore[arg-type] # part_of has seen to it


def is_in_memory(part: Dataset[Any]) -> bool:
    """Tell whether a part is tensors, of which batches are made at once."""
    return is_tensors(part) or type(part) is Rows


def _is_map_style(value: Any) -> bool:
    """Tell whether there are examples by number, as in torch's data sets, Hugging Face's and lists."""
    others = (tuple, Mapping, str, bytes, Tensor, np.ndarray, DataLoader, Iterator)
    if isinstance(value, list) and not value:
        return False  # of nothing
    return isinstance(value, Sized) and hasattr(value, "__getitem__") and not isinstance(value, others)


def _is_list_of_arrays(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, Tensor | np.ndarray) for part in value)


def _labelled(inputs: Any, labels: Any, what: str) -> TensorDataset:
    inputs, labels = to_tensor(inputs), to_tensor(labels)
    _check_classes(labels, what)
    if inputs.dim() == 0 or len(inputs) != len(labels):
        raise TaskError(f"{what}: inputs have shape {tuple(inputs.shape)}, labels {tuple(labels.shape)}")
    return TensorDataset(inputs, labels.long())


def _check_classes(labels: Tensor, what: str) -> None:
    if labels.dim() != 1 or labels.is_floating_point() or labels.is_complex():
        form = f"{labels.dtype} of shape {tuple(labels.shape)}"
        raise TaskError(f"{what}: labels are {form}, expected integers of shape (examples,), or a task's objective")
