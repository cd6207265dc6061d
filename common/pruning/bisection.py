"""The smallest weights of tensors on an accelerator: the masks of `magnitude`, and nobody waits for a number.

The bits of a magnitude, read as an integer, have the order of the magnitudes: the k-th smallest is found by halving
their range, once for each bit. Where the search goes is decided on the device.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}


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
    threshold = _kth_smallest(bits, rank)
    goes = rank - (bits < threshold).sum()  # of those that equal the threshold
    kept = [None if mask is None else mask.reshape(-1) != 0 for _, mask in weights]
    goes = goes - torch.where(threshold == 0, _count_off(kept, bits), 0)
    for (values, _), part, alive in zip(weights, torch.split(bits, [v.numel() for v, _ in weights]), kept, strict=True):
        equal = part == threshold if alive is None else (part == threshold) & alive
        stays = (part > threshold) | (equal & (equal.cumsum(0, dtype=torch.int32) > goes))
        goes = goes - equal.sum()
        yield stays.view(values.shape).to(values.dtype)


def _bits(weights: Sequence[tuple[Tensor, Tensor | None]], dtype: torch.dtype) -> Tensor:
    """Return the bits of all magnitudes in flat order: finite, and 0 where pruned."""
    sizes = [values.numel() for values, _ in weights]
    magnitudes = torch.empty(sum(sizes), dtype=dtype, device=weights[0][0].device)
    largest = torch.finfo(dtype).max
    for part, (values, mask) in zip(torch.split(magnitudes, sizes), weights, strict=True):
        part.copy_(values.detach().reshape(-1)).abs_().nan_to_num_(nan=largest, posinf=largest)
        if mask is not None:
            part.mul_(mask.reshape(-1))
    return magnitudes.view(_INTEGERS[dtype])


def _kth_smallest(bits: Tensor, rank: int) -> Tensor:
    """Return the `rank`-th smallest of integers that are not negative, of shape ()."""
    low = torch.zeros((), dtype=bits.dtype, device=bits.device)
    high = torch.full_like(low, torch.iinfo(bits.dtype).max)
    for _ in range(torch.iinfo(bits.dtype).bits - 1):
        middle = low + (high - low) // 2
        is_enough = (bits <= middle).sum() >= rank
        low, high = torch.where(is_enough, low, middle + 1), torch.where(is_enough, middle, high)
    return low


def _count_off(kept: Sequence[Tensor | None], bits: Tensor) -> Tensor:
    """Return how many weights are pruned already."""
    counts = [mask.logical_not().sum() for mask in kept if mask is not None]
    return torch.stack(counts).sum() if counts else bits.new_zeros((), dtype=torch.int64)
