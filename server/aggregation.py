"""The global model from the clients' results: tensor by tensor, block by block, in client order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common.masks import BLOCK, Indices, PackedMask, block_indices
from common.payload import DENSE, KEPT, SCALE
from common.quantization import dequantize
from common.tensortable import TensorTable

Array = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Update:
    """One client's result, checked by `common.wireformat.WireFormat.check`."""

    client: int
    examples: int
    """Training examples: the weight of the client."""
    masks: Mapping[str, PackedMask]
    """In force after the client's work, by tensor name; a tensor without one came dense."""
    entries: Mapping[str, Tensor]
    """`kept/NAME`, `dense/NAME` and `scale/NAME`, as they travelled; typically views of a mapped file."""


def aggregate(table: TensorTable, old: Mapping[str, Tensor], updates: Sequence[Update]) -> Iterator[tuple[str, Tensor]]:
    """Yield the new global model in table order, one tensor at a time.

    Every element is the mean over the clients whose mask keeps it, weighted by their examples, and the old
    global value where none does (Li et al. 2020, "LotteryFL: Empower Edge Intelligence with Personalized and
    Communication-Efficient Federated Learning", the server's aggregation). Dense parameters and
    floating-point buffers are thus means over all clients. An integer or bool buffer is that of the client
    with most examples; among equals, of the lowest client number.

    Clients are summed in ascending order, in a wider type, whatever the order of `updates`: the same updates
    give the same bits. Clients that agree on an element give exactly their value, for any weights.

    Args:
        table: of the model.
        old: the global model that the clients started from, by name, on the CPU.
        updates: at least one, one per client.

    Raises:
        ValueError: no updates, two of one client, or one with less than one example.
    """
    if not updates:
        raise ValueError("no updates: there is nothing to aggregate")
    ordered = sorted(updates, key=lambda update: update.client)
    for index, update in enumerate(ordered):
        if update.examples < 1:
            raise ValueError(f"client {update.client}: {update.examples} examples, expected at least 1")
        if index and update.client == ordered[index - 1].client:
            raise ValueError(f"client {update.client}: has two updates, expected one")
    return _walk(table, old, ordered)


def _walk(table: TensorTable, old: Mapping[str, Tensor], updates: Sequence[Update]) -> Iterator[tuple[str, Tensor]]:
    largest = max(updates, key=lambda update: update.examples)  # the first of equals
    blocks = {dtype: _Block(dtype) for dtype in {spec.dtype for spec in table} if dtype.is_floating_point}
    for spec in table:
        if spec.dtype.is_floating_point:
            yield spec.name, _weighted_mean(spec.name, old[spec.name], updates, blocks[spec.dtype])
        else:
            yield spec.name, largest.entries[DENSE + spec.name].clone()


def _weighted_mean(name: str, old: Tensor, updates: Sequence[Update], block: "_Block") -> Tensor:
    new = torch.empty_like(old, memory_format=torch.contiguous_format)
    old_flat, new_flat = old.detach().reshape(-1), new.view(-1)
    sources = [_Values(name, update) for update in updates]
    for start in range(0, old.numel(), BLOCK):
        old_block = old_flat[start : start + BLOCK]
        block.clear(len(old_block))
        for update, source in zip(updates, sources, strict=True):
            block.add(*source.take(start), update.examples)
        _write(new_flat[start : start + BLOCK], block.mean(old_block))
    return new


class _Values:
    """One client's values of one tensor, taken and widened block by block; nothing of a block is held."""

    def __init__(self, name: str, update: Update) -> None:
        self._packed = update.masks.get(name)
        self._flat = update.entries[(DENSE if self._packed is None else KEPT) + name].reshape(-1)
        self._scales = update.entries.get(SCALE + name)
        self._taken = 0

    def take(self, start: int) -> tuple[Indices | None, Tensor]:
        """Return where in the block from element `start` on there are values (None: everywhere), and the values."""
        if self._packed is None:
            return None, self._part(start, start + BLOCK)
        indices = block_indices(self._packed, start)
        first = self._taken
        self._taken += indices.size
        return indices, self._part(first, self._taken)

    def _part(self, first: int, last: int) -> Tensor:
        part = self._flat[first:last]
        return part if self._scales is None else dequantize(part, self._scales, first)


class _Block:
    """The sums over one block of elements, of values times weights and of weights.

    They are the real and the imaginary part of one array, because finding an element costs more than adding
    to it. The parts are wider than the tensor's elements: rounded to these, the mean of equal values is the
    value itself, whatever the weights.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        wide = np.clongdouble if dtype is torch.float64 else np.complex128
        self._sums = self._buffer = np.empty(BLOCK, wide)
        self._terms = np.empty(BLOCK, wide)

    def clear(self, size: int) -> None:
        """Start a block of `size` elements."""
        self._sums = self._buffer[:size]
        self._sums.fill(0)

    def add(self, positions: Indices | None, values: Tensor, weight: int) -> None:
        """Add values at distinct positions; None: at all."""
        terms = self._terms[: len(values)]
        np.multiply(_array(values), weight, out=terms.real, dtype=terms.real.dtype)
        terms.imag = weight
        if positions is None:
            np.add(self._sums, terms, out=self._sums)
        else:
            np.add.at(self._sums, positions, terms)

    def mean(self, old: Tensor) -> Array:
        """Return the means, still wide; the old value where nothing was added."""
        with np.errstate(invalid="ignore"):  # 0 / 0
            means = self._sums.real / self._sums.imag
        return np.where(self._sums.imag > 0, means, _array(old))


# A block is worked on by numpy, in one thread: torch would share it out among threads, at whose end it waits
# for the slowest, for milliseconds where workers keep all cores busy. But bfloat16 is known to torch alone.


def _array(block: Tensor) -> Array:
    array: Array = (block.float() if block.dtype is torch.bfloat16 else block).numpy()
    return array


def _write(block: Tensor, values: Array) -> None:
    if block.dtype is torch.bfloat16:
        block.copy_(torch.from_numpy(values))
    else:
        block.numpy()[:] = values
