"""The smallest weights of tensors on an accelerator: the masks of `magnitude`, by few operations on all at once.

The bits of a magnitude, read as an integer, have the order of the magnitudes. A sample brackets the k-th smallest of
them, and what lies in the bracket is sorted; the sample decides how much that is, never the result.
"""

from collections.abc import Iterator, Sequence
from math import isqrt

import torch
from torch import Tensor

from lotteryfl.common.transfer import fetched_counts

_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}

_PRUNED = -1
"""In place of the bits of a weight that is pruned already: it goes before every other 0."""

_SAMPLE = 1 << 16
"""Elements of the sample, about."""

_MOST_INSIDE = 16
"""The bracket is sorted if no more than a weight in so many lies in it, as where there are few equal ones."""


def masks_above(weights: Sequence[tuple[Tensor, Tensor | None]], rank: int, dtype: torch.dtype) -> Iterator[Tensor]:
    """Yield masks without the `rank` smallest magnitudes; of equal ones the lowest flat index goes first.

    Args:
        weights: (values, mask or None) in flat order, on one device; what is pruned already counts as 0, and goes
            before every other 0.
        rank: more than 0; what is pruned already is among them.
        dtype: float32 or float64, to compare in.

    Yields:
        One contiguous mask for each tensor, of its shape and dtype.
    """
    bits = _bits(weights, dtype)
    threshold, goes, ties = _threshold(bits, rank)
    if goes < ties:
        bits[(bits == threshold).nonzero().flatten()[goes:]] += 1  # the last of them stay
    for (values, _), part in zip(weights, torch.split(bits, [values.numel() for values, _ in weights]), strict=True):
        mask = torch.empty_like(values, requires_grad=False, memory_format=torch.contiguous_format)
        torch.gt(part, threshold, out=mask.view(-1))
        yield mask


def _bits(weights: Sequence[tuple[Tensor, Tensor | None]], dtype: torch.dtype) -> Tensor:
    """Return the bits of all magnitudes in flat order: finite ones, and `_PRUNED`."""
    largest = torch.finfo(dtype).max
    magnitudes = torch.cat([values.detach().reshape(-1) for values, _ in weights]).to(dtype)
    bits = magnitudes.abs_().nan_to_num_(nan=largest, posinf=largest).view(_INTEGERS[dtype])
    for part, (_, mask) in zip(torch.split(bits, [values.numel() for values, _ in weights]), weights, strict=True):
        if mask is not None:
            part.masked_fill_(mask.reshape(-1) == 0, _PRUNED)
    return bits


def _threshold(bits: Tensor, rank: int) -> tuple[Tensor, int, int]:
    """Return the `rank`-th smallest, of shape (), how many that equal it have to go, and how many there are."""
    low, high = _bracket(bits, rank)
    is_inside = (bits > low) & (bits <= high)
    below, inside = fetched_counts([(bits <= low).sum(), is_inside.sum()])
    is_bracketed = below < rank <= below + inside and inside <= max(_SAMPLE, bits.numel() // _MOST_INSIDE)
    if is_bracketed:
        found = bits[is_inside].sort().values
        value = found[rank - below - 1]
    else:
        found, below = bits, 0
        value = _kth_smallest(bits, rank)
    del is_inside
    smaller, ties = fetched_counts([(found < value).sum(), (found == value).sum()])
    return value, rank - below - smaller, ties


def _bracket(bits: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Guess from a sample what the `rank`-th smallest is above, and not above."""
    stride = (bits.numel() // _SAMPLE) | 1  # odd, so that it does not walk down one column of a matrix
    sample = bits[::stride].sort().values
    first, last = bracket_places(rank, bits.numel(), sample.numel())
    low = sample[first] if first >= 0 else sample.new_tensor(_PRUNED - 1)
    high = sample[last] if last < sample.numel() else bits.new_tensor(_largest(bits))
    return low, high


def bracket_places(rank: int, numel: int, sampled: int) -> tuple[int, int]:
    """Return the places in a sorted sample between which the `rank`-th smallest of all should be.

    One that is outside of the sample bounds nothing.

    Args:
        rank: from 1.
        numel: how many there are in all.
        sampled: how many of them are in the sample.
    """
    position = rank * sampled // numel
    margin = 2 * isqrt(sampled) + 1  # four standard deviations of a sampled median's rank
    return position - margin, position + margin


def _kth_smallest(bits: Tensor, rank: int) -> Tensor:
    """Return the `rank`-th smallest, of shape (), by halving the range once for each bit: it takes no memory."""
    low = torch.full((), _PRUNED, dtype=bits.dtype, device=bits.device)
    high = torch.full_like(low, _largest(bits))
    for _ in range(torch.iinfo(bits.dtype).bits):
        middle = low + (high - low) // 2
        is_enough = (bits <= middle).sum() >= rank
        low, high = torch.where(is_enough, low, middle + 1), torch.where(is_enough, middle, high)
    return low


def _largest(bits: Tensor) -> int:
    return torch.iinfo(bits.dtype).max - 1  # less than the integer, so that ranges from _PRUNED on do not overflow
