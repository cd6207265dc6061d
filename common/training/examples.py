"""Examples in batches on a device: tensors in memory indexed in bulk, others read one by one."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from lotteryfl.common.training.given import Data, dataset_of, is_stream, stream_length
from lotteryfl.common.training.loaded import Loaded, Reader
from lotteryfl.common.training.objective import Labelled, Objective
from lotteryfl.common.training.recipe import Short
from lotteryfl.common.training.structure import Rows, is_tensors, mapped, moved, tensors_in
from lotteryfl.common.transfer import home_of, sent


class Batch(NamedTuple):
    """Some examples, put together."""

    content: Any
    """As the objective gets it."""
    size: int
    """How many examples."""


class Examples:
    """A data set's examples, in any order as often as one likes, or, of a stream, in its own."""

    def __init__(self, data: Data, device: torch.device, objective: Objective) -> None:
        """Take the data set, and move what is in memory to the device.

        Args:
            data: see `common.training.given.Data`.
            device: where batches go.
            objective: that batches are for; without one of the user's they are pairs.

        Raises:
            TypeError: it is no data set.
            ValueError: it is empty, or does not go together.
        """
        if not isinstance(data, Loaded):
            data = Loaded(dataset_of(data, labelled=type(objective) is Labelled))
        source = data
        self._source = source
        self._device = device
        self._rows: TensorDataset | Rows | None = None
        self.is_stream = is_stream(source.data)
        """Whether they come in an order of their own, and nobody knows how many before they have come."""
        self._home = device
        """Where the rows lie; batches of what is too large for the device go there one by one."""
        if is_tensors(source.data) and source.collate is Loaded.collate:
            self._home = home_of(source.data.tensors, device)
            self._rows = TensorDataset(*(_movable(tensor).to(self._home) for tensor in source.data.tensors))
        elif type(source.data) is Rows and source.collate is Loaded.collate:
            self._home = home_of(tensors_in(source.data.content), device)
            self._rows = Rows(mapped(lambda tensor: _movable(tensor).to(self._home), source.data.content))
        elif not self.is_stream:
            self._reader = Reader(source)

    def __len__(self) -> int:
        return len(self._source)

    @property
    def content(self) -> Any:
        """What is in memory, a row for each example; None: it is read one by one, or put together in its own way."""
        return self._rows.tensors if isinstance(self._rows, TensorDataset) else self._rows and self._rows.content

    def batch_count(self, batch_size: int, short: Short = "stays") -> int:
        """Return how many batches a pass over all examples has, over a stream at most.

        Args:
            batch_size: examples in each.
            short: what becomes of the last one.
        """
        _check_batch_size(batch_size)
        length = stream_length(self._source.data, batch_size) if self.is_stream else len(self)
        count, rest = divmod(length, batch_size)
        goes = short == "goes" or (short == "joins" and rest == 1)
        return max(count, 1) if goes or not rest else count + 1

    def shuffled(self, shuffler: torch.Generator, batch_size: int, short: Short = "stays") -> Iterator[Batch]:
        """Yield all in an order drawn from a generator; a stream in its own.

        Args:
            shuffler: moves on by one order.
            batch_size: examples in each.
            short: what becomes of the last one.
        """
        if self.is_stream:
            return self._streamed(batch_size, short)
        return self.batches(torch.randperm(len(self), generator=shuffler), batch_size, short)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield all as they lie."""
        if self.is_stream:
            return self._streamed(batch_size)
        return self.batches(torch.arange(len(self)), batch_size)

    def batches(self, order: Tensor, batch_size: int, short: Short = "stays") -> Iterator[Batch]:
        """Yield examples in the given order of indices, int64 (N,)."""
        _check_batch_size(batch_size)
        batches = list(torch.split(order, batch_size))
        if len(batches) > 1 and len(batches[-1]) < batch_size:
            if short == "goes":
                order = order[: -len(batches.pop())]
            elif short == "joins" and len(batches[-1]) == 1:
                batches[-2:] = [torch.cat(batches[-2:])]
        if self._rows is not None:
            # The indices of a whole pass go there at once: no batch waits for its own.
            for chosen in torch.split(sent(order, self._home), [len(batch) for batch in batches]):
                content = self._rows[chosen] if isinstance(self._rows, TensorDataset) else self._rows.rows(chosen)
                yield Batch(content if self._home == self._device else moved(content, self._device), len(chosen))
        else:
            read = self._reader.read([batch.tolist() for batch in batches])
            for batch, content in zip(batches, read, strict=True):
                yield Batch(moved(content, self._device), len(batch))

    def _streamed(self, batch_size: int, short: Short = "stays") -> Iterator[Batch]:
        """Yield the examples of a stream, read anew, as many as it says."""
        _check_batch_size(batch_size)
        stream: Any = self._source.data
        examples = islice(stream, stream_length(stream, batch_size))
        held: list[Any] = []
        while True:
            batch = list(islice(examples, batch_size))
            if short == "joins" and len(batch) == 1 < batch_size:
                held, batch = held + batch, []
            elif short == "goes" and held and len(batch) < batch_size:
                batch = []
            if held:
                yield Batch(moved(self._source.collate(held), self._device), len(held))
            if not batch:
                break
            held = batch
        if not held:
            raise ValueError(f"data: {type(stream).__name__}: no examples")


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: expected at least 1")


def _movable(tensor: Tensor) -> Tensor:
    """Return data that a backward can use."""
    return tensor.clone() if tensor.is_inference() else tensor
