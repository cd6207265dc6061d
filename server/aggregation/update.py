"""One client's result as aggregation sees it: the values that it sent, block by block."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lotteryfl.common.packedmasks import BLOCK, Indices, Masks, block_indices
from lotteryfl.common.tensors.partfile import PartFile
from lotteryfl.common.wire.payload import DENSE, KEPT, SCALE
from lotteryfl.common.wire.quantization import SCALE_BLOCK, dequantize, number_of_scales
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.aggregation.maskfile import MaskFile

Array = npt.NDArray[np.floating[Any]]

_ROUNDING = 1e-9
"""Far more than float64 loses of an update's norm between its bound and the mean."""

_AHEAD, _ALL_AHEAD = 1 << 17, 1 << 21
"""Bytes that are read at once of a file at most, and held of the files of all results."""


@dataclass(frozen=True, eq=False)
class Update:
    """One client's result, checked by `common.wire.format.WireFormat.check`."""

    client: int
    examples: int
    """Training examples: the weight of the client, if nothing else is."""
    masks: Masks
    """The masks in force after the client's work, by tensor name; a tensor without one came dense."""
    entries: Mapping[str, Tensor] | PartFile
    """`kept/NAME`, `dense/NAME`, `scale/NAME`, `bits/NAME`, as they travelled; in a round they stay in their file."""
    scale: float = 1.0
    """Share of its difference from the old global model that counts; less than 1 where that was too large.
    Of a strategy's own tensors all counts."""
    weight: float | None = None
    """What its strategy weighs it by in the mean, above 0; None: by its examples."""
    before: Masks | None = None
    """The masks that its work began under: what they do not keep does not count; None: all that it sent does."""

    @property
    def counts(self) -> float:
        """How much it counts in a mean."""
        return self.examples if self.weight is None else self.weight


class Values:
    """One client's values of one tensor, taken and widened block by block; nothing of a block is held.

    What is clipped stays in the type that values are summed in: rounded, it would be beyond its bound again.
    """

    def __init__(self, name: str, update: Update) -> None:
        self._name = name
        self._masks = update.masks if name in update.masks else None
        self._before = update.before if update.before is not None and name in update.before else None
        self._entries = update.entries
        self._key = (DENSE if self._masks is None else KEPT) + name
        self._is_scaled = SCALE + name in update.entries
        self._scale = update.scale
        self._taken = 0

    def take(self, start: int, old: Array) -> tuple[Indices | None, Array]:
        """Return where there are values in a block (None: everywhere), and the values.

        Args:
            start: of the block, a multiple of 8; blocks are taken one after the other.
            old: the old global values of the block.
        """
        size = len(old)
        if self._masks is None:
            return None, self._clipped(array(self._part(start, start + size)), old)
        indices = kept_in(self._masks, self._name, start, size)
        first = self._taken
        self._taken += indices.size
        values = array(self._part(first, self._taken))
        if self._scale != 1:
            values = self._clipped(values, old[indices])
        if self._before is None:
            return indices, values
        was_kept = np.zeros(size, np.bool_)
        was_kept[kept_in(self._before, self._name, start, size)] = True
        counts = was_kept[indices]
        return indices[counts], values[counts]

    def _part(self, first: int, last: int) -> Tensor:
        part = elements(self._entries, self._key, first, last)
        if not self._is_scaled:
            return part
        before = first // SCALE_BLOCK
        scales = elements(self._entries, SCALE + self._name, before, number_of_scales(last))
        return dequantize(part, scales, first - before * SCALE_BLOCK)

    def _clipped(self, values: Array, old: Array) -> Array:
        if self._scale == 1:
            return values
        start = old.astype(wider(old.dtype))
        with np.errstate(invalid="ignore"):  # inf - inf
            clipped: Array = start + self._scale * (values - start)
        return np.where(np.isfinite(start), clipped, start)


def kept_in(masks: Masks, name: str, start: int, size: int) -> Indices:
    """Return the positions, within the block from element `start` on, of what the mask of a tensor keeps there."""
    if isinstance(masks, MaskFile):
        return block_indices(masks.part(name, start, size), 0, size)
    return block_indices(masks[name], start, size)


def elements(entries: Mapping[str, Tensor] | PartFile, key: str, first: int = 0, last: int | None = None) -> Tensor:
    """Return some of an entry's elements, in flat order."""
    if isinstance(entries, PartFile):
        return entries.read(key, first, last)
    return entries[key].reshape(-1)[first:last]


def ahead_of_each(results: int) -> int:
    """Return the bytes to read ahead of the file of each of a round's results, and of its masks; see `PartFile`."""
    return min(_AHEAD, _ALL_AHEAD // results)


def share_within(bound: float, norm: float) -> float:
    """Return the share of an update of a norm that is within a bound: 1, or a little less than just within."""
    return bound / norm * (1 - _ROUNDING) if norm > bound else 1.0


def update_norm(
    table: TensorTable, old: Mapping[str, Tensor], update: Update, personal: frozenset[str] = frozenset()
) -> float:
    """Return the L2 norm of what an update would change: all floating-point values that count minus the global model's.

    A client that rewound has moved as far as from the shared model to its new values, wherever it began to train.
    What its mask has lost is not sent, and counts for nothing. The same values give the same bits.

    Args:
        table: of the model.
        old: the global model that the client started from, by name, on the CPU.
        update: the result.
        personal: names of the tensors that are each client's own; they are not aggregated, and count for nothing.
    """
    squares = 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # the caller sees that the norm is not finite
        for spec in table:
            if not spec.dtype.is_floating_point or spec.name in personal:
                continue
            flat, source = old[spec.name].detach().reshape(-1), Values(spec.name, update)
            for start in range(0, spec.numel, BLOCK):
                before = array(flat[start : start + BLOCK])
                positions, values = source.take(start, before)
                start_values = before if positions is None else before[positions]
                difference = values.astype(np.float64) - start_values
                difference[_same_and_not_finite(values, start_values)] = 0  # inf - inf
                squares += float(np.square(difference).sum())  # no BLAS: its sums depend on the number of cores
        return float(np.sqrt(squares))


def _same_and_not_finite(values: Array, start: Array) -> npt.NDArray[np.bool_]:
    same: npt.NDArray[np.bool_] = (values == start) | (np.isnan(values) & np.isnan(start))
    return same & ~np.isfinite(start)


def array(block: Tensor) -> Array:
    """Return a block of floating-point values as numpy has them; bfloat16 is known to torch alone, and widened."""
    values: Array = (block.float() if block.dtype is torch.bfloat16 else block).numpy()
    return values


def wider(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type in which values of a dtype are summed."""
    return np.dtype(np.longdouble if dtype == np.float64 else np.float64)
