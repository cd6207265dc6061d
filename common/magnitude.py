"""Which weights are the smallest: exact masks over many tensors, without gathering them in one place.

The k-th smallest magnitude is found by selection, not by sorting: a sample brackets it, one pass over the
tensors counts what lies below the bracket and collects the little that lies inside, and the k-th is picked
from that. The sample decides how much is collected, never the result.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

_BLOCK = 1 << 16
"""Elements worked on at a time: temporaries stay in the processor's cache."""

_SAMPLE = 1 << 16
"""Elements of the sample, about."""


class Weight(NamedTuple):
    """One tensor whose entries compete."""

    values: Tensor
    """Floating point, of any shape."""
    mask: Tensor | None
    """1 = kept, 0 = pruned already; None: all kept."""


def count_pruned(mask: Tensor | None) -> int:
    """Return how many entries a mask of ones and zeros prunes."""
    if mask is None:
        return 0
    # Sums of up to 2^24 ones are exact in float32, and take a thirtieth of the time of count_nonzero.
    parts = torch.split(mask.reshape(-1), 1 << 24)
    return mask.numel() - sum(int(part.sum(dtype=torch.float32)) for part in parts)


def masks_without_smallest(weights: Iterable[Weight], count: int) -> Iterator[Tensor]:
    """Yield masks that prune the `count` smallest magnitudes, on top of what is pruned already.

    Of equal magnitudes at the threshold the lowest flat index goes first. Non-finite magnitudes count
    as the largest finite one.

    Args:
        weights: the tensors, in flat order. Each is let go when its mask is yielded, so that an old mask's
            memory can be the next one's.
        count: entries to prune, 0 ... entries that are kept.

    Yields:
        One contiguous mask for each tensor, of its shape, dtype and device.
    """
    waiting = deque(weights)
    del weights
    dtype = reduce(torch.promote_types, (weight.values.dtype for weight in waiting), torch.float32)
    # Entries that are pruned already have the magnitude -1: they are the first to go.
    count += sum(count_pruned(weight.mask) for weight in waiting)
    threshold, ties_to_prune, ties = _threshold(waiting, count, dtype) if count else (-math.inf, 0, 0)
    while waiting:
        weight = waiting.popleft()
        mask = torch.empty_like(weight.values, requires_grad=False, memory_format=torch.contiguous_format)
        for target, magnitudes in zip(torch.split(mask.view(-1), _BLOCK), _magnitudes(weight, dtype), strict=True):
            torch.gt(magnitudes, threshold, out=target)
            if ties_to_prune < ties:
                tied = (magnitudes == threshold).nonzero().flatten()
                target[tied[ties_to_prune:]] = 1
                ties_to_prune = max(0, ties_to_prune - tied.numel())
                ties -= tied.numel()
        del weight
        yield mask


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


def _split(weights: Iterable[Weight], low: float, high: float, dtype: torch.dtype) -> tuple[int, Tensor]:
    """Return how many magnitudes are below `low`, and those in [low, high], on the first tensor's device."""
    below, inside = 0, []
    for weight in weights:
        for magnitudes in map(_array, _magnitudes(weight, dtype)):
            below += int(_count(magnitudes < low))
            inside.append(torch.as_tensor(magnitudes[(magnitudes >= low) & (magnitudes <= high)]))
    return below, torch.cat([part.to(inside[0].device) for part in inside])


def _array(block: Tensor) -> Any:
    """Return the block itself; on the CPU as numpy sees it, which compares and selects several times as fast."""
    return block.numpy() if block.device.type == "cpu" else block


def _count(condition: Any) -> Any:
    return np.count_nonzero(condition) if isinstance(condition, np.ndarray) else condition.sum()


def _magnitudes(weight: Weight, dtype: torch.dtype) -> Iterator[Tensor]:
    """Yield the magnitudes in flat order, block by block."""
    flat, mask = _flat(weight)
    values = torch.split(flat, _BLOCK)
    masks = [None] * len(values) if mask is None else torch.split(mask, _BLOCK)
    for block, kept in zip(values, masks, strict=True):
        yield _magnitude(block, kept, dtype)


def _flat(weight: Weight, stride: int = 1) -> tuple[Tensor, Tensor | None]:
    values, mask = weight
    return values.detach().reshape(-1)[::stride], None if mask is None else mask.reshape(-1)[::stride]


def _magnitude(values: Tensor, mask: Tensor | None, dtype: torch.dtype) -> Tensor:
    largest = torch.finfo(dtype).max
    magnitude = values.abs().to(dtype).nan_to_num_(nan=largest, posinf=largest)
    if mask is None:
        return magnitude
    # Arithmetic takes a fraction of the time of masked_fill_: kept, magnitude × 1 + 0; pruned, finite × 0 − 1.
    kept = mask.to(dtype)
    return (kept - 1).addcmul_(magnitude, kept)
