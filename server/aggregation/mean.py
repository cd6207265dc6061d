"""The mean weighted by examples."""

import numpy as np
import torch

from lotteryfl.common.packedmasks import BLOCK, Indices
from lotteryfl.server.aggregation.rules import Rule
from lotteryfl.server.aggregation.update import Array


class WeightedMean(Rule):
    """The sums over one block of elements, of values times weights and of weights.

    They are the real and the imaginary part of one array, because finding an element costs more than adding
    to it. The parts are wider than the tensor's elements: rounded to these, the mean of equal values is the
    value itself, whatever the weights.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        """Make room for tensors of a floating-point dtype."""
        wide = np.clongdouble if dtype is torch.float64 else np.complex128
        self._sums = self._buffer = np.empty(BLOCK, wide)
        self._terms = np.empty(BLOCK, wide)

    def start(self, size: int) -> None:
        """Start a block of `size` elements."""
        self._sums = self._buffer[:size]
        self._sums.fill(0)

    def add(self, positions: Indices | None, values: Array, examples: int) -> None:
        """Add a client's values at distinct positions of the block; None: at all."""
        terms = self._terms[: len(values)]
        np.multiply(values, examples, out=terms.real, dtype=terms.real.dtype)
        terms.imag = examples
        if positions is None:
            np.add(self._sums, terms, out=self._sums)
        else:
            np.add.at(self._sums, positions, terms)

    def result(self, old: Array) -> Array:
        """Return the means, still wide; the old ones where nothing was added."""
        with np.errstate(invalid="ignore"):  # 0 / 0
            means = self._sums.real / self._sums.imag
        return np.where(self._sums.imag > 0, means, old)


class MeanWithZeros(WeightedMean):
    """The same over all clients: a weight that a client has pruned counts as a zero of it."""

    def start(self, size: int) -> None:
        """Start a block of `size` elements."""
        super().start(size)
        self._examples = 0

    def add(self, positions: Indices | None, values: Array, examples: int) -> None:
        """Add a client's values at distinct positions of the block; None: at all."""
        super().add(positions, values, examples)
        self._examples += examples

    def result(self, old: Array) -> Array:
        """Return the means, still wide."""
        del old
        means: Array = self._sums.real / self._examples
        return means
