"""What clients sent of a strategy's own tensors, block by block, and their sums."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch

from lotteryfl.common.packedmasks import BLOCK, Indices, packed_size
from lotteryfl.common.wire.payload import BITS, DENSE, KEPT
from lotteryfl.common.wire.table import TensorSpec
from lotteryfl.server.aggregation.rules import Rule
from lotteryfl.server.aggregation.update import Array, Update, array, elements, kept_in


class StrategyValues:
    """One client's values of one of a strategy's tensors; nothing of a block is held.

    Off a mask that it travels under, a tensor is 0; put together as `kept`, it has no values where the weight that it
    is like is pruned.
    """

    def __init__(self, spec: TensorSpec, update: Update) -> None:
        self._masks = update.masks if spec.like in update.masks else None
        self._like = spec.like
        self._is_kept = spec.combine == "kept"
        self._is_masked = spec.masked and self._masks is not None
        self._is_bits = spec.is_bits
        self._key = key_of(spec, update)
        self._entries = update.entries
        self._taken = 0

    def take(self, start: int, old: Array) -> tuple[Indices | None, Array]:
        """Return where there are values in a block (None: everywhere), and the values.

        Args:
            start: of the block, a multiple of 8; blocks are taken one after the other.
            old: the old values of the block.
        """
        size = len(old)
        if self._masks is None or not (self._is_kept or self._is_masked):
            return None, self._part(start, start + size)
        indices = kept_in(self._masks, self._like, start, size)
        if not self._is_masked:
            return indices, self._part(start, start + size)[indices]
        first = self._taken
        self._taken += indices.size
        values = self._part(first, self._taken)
        if self._is_kept:
            return indices, values
        whole = np.zeros(size, values.dtype)
        whole[indices] = values
        return None, whole

    def _part(self, first: int, last: int) -> Array:
        if not self._is_bits:
            return array(elements(self._entries, self._key, first, last))
        packed = elements(self._entries, self._key, first // 8, packed_size(last)).numpy()
        return np.unpackbits(packed, count=last - first, bitorder="little").astype(np.float32)


class Sum(Rule):
    """The sum over clients, in float64; their order is that in which they are added.

    A sum beyond what the tensor's dtype holds is the most that it does: no client can make a model that cannot travel.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        """Make room for tensors of a floating-point dtype."""
        self._most = torch.finfo(dtype).max
        self._buffer = np.empty(BLOCK)
        self._sums = self._buffer

    def start(self, size: int) -> None:
        """Start a block of `size` elements."""
        self._sums = self._buffer[:size]
        self._sums.fill(0)

    def add(self, positions: Indices | None, values: Array, examples: float) -> None:  # noqa: ARG002 - nobody weighs more
        """Add a client's values at all positions of the block."""
        with np.errstate(over="ignore"):
            np.add(self._sums, values, out=self._sums)

    def write(self, old: Array, out: Array) -> None:  # noqa: ARG002 - it is no sum's
        """Write the sums."""
        out[:] = np.clip(self._sums, -self._most, self._most, out=self._sums)


def sent(specs: Iterable[TensorSpec], updates: Sequence[Update]) -> list[TensorSpec]:
    """Return those of a strategy's tensors that anybody has sent."""
    return [spec for spec in specs if any(key_of(spec, update) in update.entries for update in updates)]


def as_put_together(spec: TensorSpec) -> TensorSpec:
    """Return what a strategy's tensor is when it has been put together: of a bool one, shares or numbers of clients."""
    return replace(spec, dtype=torch.float32) if spec.is_bits else spec


def key_of(spec: TensorSpec, update: Update) -> str:
    """Return the name of the entry that a result has of one of a strategy's tensors, where it has one."""
    if spec.is_bits:
        return BITS + spec.name
    return (KEPT if spec.masked and spec.like in update.masks else DENSE) + spec.name
