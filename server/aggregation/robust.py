"""Rules that a minority of clients cannot pull where it wants, whatever it sends (Yin et al. 2018).

"Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates" (ICML): coordinate-wise median
(definition 1) and trimmed mean (definition 2), here of every element over the n clients whose mask keeps it. All
clients count alike: what a client says of its examples would be one more thing to lie about. One or two values are
their mean under either rule, and nobody outvotes anybody: robustness needs that most elements are kept by several.
"""

from abc import abstractmethod
from fractions import Fraction
from math import floor

import numpy as np
import torch

from lotteryfl.common.packedmasks import BLOCK, Indices
from lotteryfl.server.aggregation.rules import Rule
from lotteryfl.server.aggregation.update import Array, wider

_MOST_CELLS = 1 << 22
"""Values held at a time: blocks are smaller where there are more clients than 64."""


class SortedRule(Rule):
    """A rule on the sorted values of each element."""

    def __init__(self, dtype: torch.dtype, clients: int, *, wide: bool = False) -> None:
        """Make room.

        Args:
            dtype: of the tensors, floating point.
            clients: most that give values for a block.
            wide: some of the values are wider than the tensors.
        """
        narrow = np.dtype(np.float64 if dtype is torch.float64 else np.float32)
        self.block = BLOCK
        while self.block > 8 and self.block * clients > _MOST_CELLS:
            self.block //= 2
        self._wide = wider(narrow)
        self._cells = np.empty((self.block, clients), self._wide if wide else narrow)  # a row for each element
        self._counts = np.empty(self.block, np.intp)
        self._size = self._added = 0

    def start(self, size: int) -> None:
        """Start a block of `size` elements."""
        self._size, self._added = size, 0
        self._cells[:size] = np.inf  # sorts behind all that was sent
        self._counts[:size] = 0

    def add(self, positions: Indices | None, values: Array, weight: float) -> None:  # noqa: ARG002 - clients count alike
        """Add a client's values at distinct positions of the block; None: at all."""
        where = slice(self._size) if positions is None else positions
        self._cells[where, self._added] = values
        self._counts[where] += 1
        self._added += 1

    def write(self, old: Array, out: Array) -> None:
        """Write what the rule makes of the values; the old ones where nothing was added."""
        cells, counts = self._cells[: self._size], self._counts[: self._size]
        cells.sort(axis=1)
        with np.errstate(invalid="ignore"):  # of elements without a value
            out[:] = np.where(counts > 0, self._of_sorted(cells, counts), old)

    @abstractmethod
    def _of_sorted(self, cells: Array, counts: Indices) -> Array:
        """Return one value for each row, whose first `counts` cells are values in ascending order."""


class Median(SortedRule):
    """The middle value; of an even number of values, the mean of the middle two."""

    def _of_sorted(self, cells: Array, counts: Indices) -> Array:
        rows = np.arange(len(cells))
        lower, upper = cells[rows, np.maximum(counts - 1, 0) // 2], cells[rows, counts // 2]
        medians: Array = (lower.astype(self._wide) + upper) / 2
        return medians


class TrimmedMean(SortedRule):
    """The mean of what is left without the ⌊trim · n⌋ smallest and as many of the largest of n values."""

    def __init__(self, dtype: torch.dtype, clients: int, trim: float, *, wide: bool = False) -> None:
        """Make room.

        Args:
            dtype: of the tensors, floating point.
            clients: most that give values for a block.
            trim: share cut at each end, less than a half.
            wide: some of the values are wider than the tensors.
        """
        super().__init__(dtype, clients, wide=wide)
        exact = Fraction(repr(trim))  # as it was written: 0.29 of 100 are 29
        self._cut = np.array([floor(exact * count) for count in range(clients + 1)])

    def _of_sorted(self, cells: Array, counts: Indices) -> Array:
        first = self._cut[counts]
        end = counts - first
        sums = np.zeros(len(cells), self._wide)
        for rank in range(cells.shape[1]):
            sums += np.where((first <= rank) & (rank < end), cells[:, rank], 0)
        means: Array = sums / (end - first)
        return means
