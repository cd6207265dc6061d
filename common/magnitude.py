"""Which weights are the smallest: exact masks over many tensors, without gathering them in one place.

The k-th smallest magnitude is found by selection, not by sorting: a sample brackets it, one pass over the
tensors counts what lies below the bracket and collects the little that lies inside, and the k-th is picked
from that. The sample decides how much is collected, never the result.
"""

import math
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

_BLOCK = 1 << 18
"""Elements worked on at a time: temporaries stay in the processor's cache."""

_SAMPLE = 1 << 16
"""Elements of the sample, about."""


class Weight(NamedTuple):
    """One tensor whose entries compete."""

    values: Tensor
    """Floating point, of any shape."""
    mask: Tensor | None
    """1 = kept, 0 = pruned already; None: all kept."""


def masks_without_smallest(weights: Sequence[Weight], count: int) -> list[Tensor]:
    """Return masks that prune the `count` smallest magnitudes, on top of what is pruned already.

    Of equal magnitudes at the threshold the lowest flat index goes first. Non-finite magnitudes count
    as equal, and as the largest.

    Args:
        weights: the tensors, in flat order.
        count: entries to prune, 0 ... entries that are kept.

    Returns:
        One contiguous mask for each tensor, of its shape, dtype and device.
    """
    masks = [_empty_mask(weight.values) for weight in weights]
    dtype = reduce(torch.promote_types, (weight.values.dtype for weight in weights), torch.float32)
    # Entries that are pruned already have the magnitude -1: they are the first to go.
    count += sum(int((weight.mask == 0).sum()) for weight in weights if weight.mask is not None)
    if count == 0:
        return [mask.fill_(1) for mask in masks]
    threshold, ties_to_prune, ties = _threshold(weights, count, dtype)
    targets = (block for mask in masks for block in torch.split(mask.view(-1), _BLOCK))
    for target, magnitudes in zip(targets, _magnitudes(weights, dtype), strict=True):
        torch.gt(magnitudes, threshold, out=target)
        if ties_to_prune < ties:
            tied = (magnitudes == threshold).nonzero().flatten()
            target[tied[ties_to_prune:]] = 1
            ties_to_prune = max(0, ties_to_prune - tied.numel())
            ties -= tied.numel()
    return masks


def _threshold(weights: Sequence[Weight], count: int, dtype: torch.dtype) -> tuple[float, int, int]:
    """Return the `count`-th smallest magnitude, how many that equal it have to go, and how many equal it."""
    low, high = _bracket(weights, count, dtype)
    while True:
        below, inside = _split(weights, low, high, dtype)
        if below >= count:
            low, high = -math.inf, low
        elif below + inside.numel() < count:
            low, high = high, math.inf
        else:
            break
    threshold = inside.kthvalue(count - below).values
    smaller = below + int((inside < threshold).sum())
    return threshold.item(), count - smaller, int((inside == threshold).sum())


def _bracket(weights: Sequence[Weight], count: int, dtype: torch.dtype) -> tuple[float, float]:
    """Guess from a sample two magnitudes between which the `count`-th smallest should be."""
    total = sum(weight.values.numel() for weight in weights)
    stride = (total // _SAMPLE) | 1  # odd, so that it does not walk down one column of a matrix
    device = weights[0].values.device
    parts = [_magnitude(*_flat(weight, stride), dtype).to(device) for weight in weights]
    sample = torch.cat(parts).sort().values
    position = count * sample.numel() // total
    margin = 2 * math.isqrt(sample.numel()) + 1  # four standard deviations of a sampled median's rank
    low = sample[position - margin].item() if position >= margin else -math.inf
    high = sample[position + margin].item() if position + margin < sample.numel() else math.inf
    return low, high


def _split(weights: Sequence[Weight], low: float, high: float, dtype: torch.dtype) -> tuple[int, Tensor]:
    """Return how many magnitudes are below `low`, and those in [low, high]."""
    device = weights[0].values.device
    below, inside = 0, []
    for magnitudes in _magnitudes(weights, dtype):
        small = magnitudes < low
        below += int(small.sum())
        inside.append(magnitudes[(small | (magnitudes > high)).logical_not_()].to(device))
    return below, torch.cat(inside)


def _magnitudes(weights: Sequence[Weight], dtype: torch.dtype) -> Iterator[Tensor]:
    """Yield the magnitudes of all tensors in flat order, block by block."""
    for weight in weights:
        flat, mask = _flat(weight)
        values = torch.split(flat, _BLOCK)
        masks = [None] * len(values) if mask is None else torch.split(mask, _BLOCK)
        for block, kept in zip(values, masks, strict=True):
            yield _magnitude(block, kept, dtype)


def _flat(weight: Weight, stride: int = 1) -> tuple[Tensor, Tensor | None]:
    values, mask = weight
    return values.detach().reshape(-1)[::stride], None if mask is None else mask.reshape(-1)[::stride]


def _magnitude(values: Tensor, mask: Tensor | None, dtype: torch.dtype) -> Tensor:
    magnitude = values.abs().to(dtype).nan_to_num_(nan=math.inf, posinf=math.inf)
    return magnitude if mask is None else magnitude.masked_fill_(mask == 0, -1)


def _empty_mask(values: Tensor) -> Tensor:
    return torch.empty_like(values, requires_grad=False, memory_format=torch.contiguous_format)
