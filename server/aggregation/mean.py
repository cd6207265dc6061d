"""The weighted mean."""

import numpy as np
import torch

from lotteryfl.common.packedmasks import BLOCK, Indices
from lotteryfl.server.aggregation.rules import Rule
from lotteryfl.server.aggregation.update import Array

_FEW = 0.85
"""Share of a block's elements up to which it is quicker to take them one by one."""


class WeightedMean(Rule):
    """The sums over one block of elements, of values times weights and of weights.

    They are wider than the tensor's elements: rounded to these, the mean of equal values is the value itself, whatever
    the weights. Where all clients have sent the whole block, one number is all the weights.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        """Make room for tensors of a floating-point dtype."""
        wide = np.longdouble if dtype is torch.float64 else np.float64
        self._buffers: list[Array] = [np.empty(BLOCK, wide) for _ in range(3)]
        self._sums, self._weights, self._terms = self._buffers
        self._everywhere: float = 0
        self._is_sparse = False

    def start(self, size: int) -> None:
        """Start a block of `size` elements."""
        self._sums, self._weights, self._terms = (buffer[:size] for buffer in self._buffers)
        self._sums.fill(0)
        self._everywhere = 0
        self._is_sparse = False

    def add(self, positions: Indices | None, values: Array, weight: float) -> None:
        """Add a client's values at distinct positions of the block; None: at all."""
        terms = self._terms[: len(values)]
        np.multiply(values, weight, out=terms, dtype=terms.dtype)
        if positions is None:
            np.add(self._sums, terms, out=self._sums)
            self._everywhere += weight
            return
        np.add.at(self._sums, positions, terms)
        self._weigh(positions, weight)

    def _weigh(self, positions: Indices, weight: float) -> None:
        if not self._is_sparse:
            self._is_sparse = True
            self._weights.fill(0)
        np.add.at(self._weights, positions, self._weights.dtype.type(weight))

    def write(self, old: Array, out: Array) -> None:
        """Write the means; the old values where nothing was added."""
        if not self._is_sparse:
            self._write_whole(self._everywhere, out)
            return
        if self._everywhere:
            self._weights += self._everywhere
        kept = np.flatnonzero(self._weights != 0)
        if len(kept) <= _FEW * len(out):
            means = self._sums.take(kept, mode="clip")
            means /= self._weights.take(kept, mode="clip")
            out[:] = old
            out[kept] = means
            return
        np.copyto(self._terms, old)
        np.divide(self._sums, self._weights, out=self._terms, where=self._weights != 0)
        out[:] = self._terms

    def _write_whole(self, weight: float, out: Array) -> None:
        np.divide(self._sums, self._sums.dtype.type(weight), out=self._sums)
        out[:] = self._sums


class MeanWithZeros(WeightedMean):
    """The same over all clients: a weight that a client has pruned counts as a zero of it."""

    def _weigh(self, positions: Indices, weight: float) -> None:
        """Count the client everywhere."""
        del positions
        self._everywhere += weight
