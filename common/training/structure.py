"""Batches of any structure: tensors in tuples, lists and dicts, nested as people nest them."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset, default_collate

from lotteryfl.common.arrays import native
from lotteryfl.common.owncode.usercode import first_line
from lotteryfl.common.transfer import sent


class Rows(Dataset[Any]):
    """Examples in memory: tensors of any structure, with a row for each example in every one."""

    def __init__(self, content: Any) -> None:
        """Take the tensors.

        Raises:
            ValueError: there is none, or their numbers of rows differ.
        """
        self.content = content
        lengths = {tensor.shape[:1] for tensor in tensors_in(content)}
        if len(lengths) != 1 or () in lengths:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors_in(content))
            raise ValueError(f"data: tensors of shapes {shapes or 'none'}: expected a row for each example in all")
        ((self._length,),) = lengths

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        return self.rows(index)

    def rows(self, chosen: Any) -> Any:
        """Return the structure with some of every tensor's rows, by an index or a tensor of indices."""
        return mapped(lambda tensor: tensor[chosen], self.content)


class Unbuilt(TensorDataset):
    """Labelled examples whose inputs are made when they are asked for: of some, of these alone; of all, once."""

    def __init__(self, places: Tensor, labels: Tensor, inputs: Callable[[Tensor], Tensor]) -> None:
        """Make no inputs yet.

        Args:
            places: int64 (examples,), of the examples in what they are made of.
            labels: (examples,).
            inputs: those of the examples at some places.
        """
        self._places = places
        self.labels = labels
        self._inputs = inputs

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        if "tensors" in vars(self):
            return tuple(tensor[index] for tensor in self.tensors)
        places = self._places[index]
        inputs = self._inputs(places.reshape(-1))
        return inputs.reshape(places.shape + inputs.shape[1:]), self.labels[index]

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Inputs and labels of all."""
        return self._inputs(self._places), self.labels


def is_tensors(data: Dataset[Any]) -> TypeGuard[TensorDataset]:
    """Tell whether a data set is tensors by number, and not what somebody has made of them by a class of their own."""
    return type(data) in (TensorDataset, Unbuilt)


def mapped(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Return a structure with a function of every tensor in its place; what is no tensor stays as it is."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: mapped(function, part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(function, part) for part in value))
    if type(value) in (tuple, list):
        return type(value)(mapped(function, part) for part in value)
    return value


def moved(batch: Any, device: torch.device) -> Any:
    """Return a batch on a device; what can go there by itself, as a `BatchEncoding` or a packed sequence, does."""
    if not isinstance(batch, Tensor) and callable(getattr(batch, "to", None)):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: moved(part, device) for key, part in batch.items()}
    if type(batch) in (tuple, list):
        return type(batch)(moved(part, device) for part in batch)
    return mapped(lambda tensor: sent(tensor, device), batch)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of a structure."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_in(part)


def collate(examples: list[Any]) -> Any:
    """Put examples together as torch does, arrays that lie backwards or in foreign bytes and lists of numbers too.

    Raises:
        ValueError: they do not go together.
    """
    try:
        return default_collate([_taken(example) for example in examples])
    except (RuntimeError, TypeError, KeyError) as error:
        raise ValueError(
            "data: examples do not go together as they are, and need a collate(examples) of the task's: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error


def _taken(example: Any) -> Any:
    if isinstance(example, np.ndarray):
        return native(example)
    if isinstance(example, Mapping):
        return {key: _tensor_of(part) for key, part in example.items()}
    if type(example) in (tuple, list):
        return type(example)(_tensor_of(part) for part in example)
    return example


def _tensor_of(part: Any) -> Any:
    """Return a list of numbers as a tensor, which torch would take apart otherwise, column by column."""
    if type(part) is list and part and all(isinstance(number, int | float) for number in part):
        return torch.tensor(part)
    return _taken(part)
