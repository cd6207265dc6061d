"""Which weights are the smallest: exact masks over many tensors, without gathering them in one place.

The k-th smallest magnitude is found by selection, not by sorting: a sample brackets it, one pass over the
tensors counts what lies below the bracket and collects the little that lies inside, and the k-th is picked
from that. The sample decides how much is collected, never the result.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lotteryfl.common.pruning.selection import bracket_places, masks_above
from lotteryfl.common.transfer import fetched_counts

_BLOCK = 1 << 17
"""Elements worked on at a time: temporaries stay in the processor's cache."""

_SAMPLE = 1 << 16
"""Elements of the sample, about."""


class Weight(NamedTuple):
    """One tensor whose weights compete."""

    values: Tensor
    """Floating point, of any shape."""
    mask: Tensor | None
    """1 = kept, 0 = pruned already; None: all kept."""
    pruned: int
    """How many the mask prunes."""


def count_pruned(mask: Tensor | None) -> int:
    """Return how many weights a mask of ones and zeros prunes."""
    if mask is None:
        return 0
    # Sums of up to 2^24 ones are exact in float32, and take a thirtieth of the time of count_nonzero.
    parts = torch.split(mask.reshape(-1), 1 << 24)
    return mask.numel() - sum(int(part.sum(dtype=torch.float32)) for part in parts)


def counts_pruned(masks: Sequence[Tensor | None]) -> list[int]:
    """Return how many weights each mask prunes; masks on a device are waited for once."""
    there = {index: mask for index, mask in enumerate(masks) if mask is not None and mask.device.type != "cpu"}
    kept = dict(zip(there, fetched_counts(mask.sum(dtype=torch.int64) for mask in there.values()), strict=True))
    return [
        there[index].numel() - kept[index] if index in there else count_pruned(mask) for index, mask in enumerate(masks)
    ]


def masks_without_smallest(weights: Iterable[Weight], count: int) -> Iterator[Tensor]:
    """Yield masks that prune the `count` smallest magnitudes, on top of what is pruned already.

    Of equal magnitudes at the threshold the lowest flat index goes first. Non-finite magnitudes count
    as the largest finite one.

    Args:
        weights: the tensors, in flat order. Each is let go when its mask is yielded, so that an old mask's
            memory can be the next one's.
        count: weights to prune, 0 ... weights that are kept.

    Yields:
        One contiguous mask for each tensor, of its shape, dtype and device.
    """
    waiting = deque(weights)
    del weights
    dtype = reduce(torch.promote_types, (weight.values.dtype for weight in waiting), torch.float32)
    if _are_on_one_accelerator(waiting) and (rank := count + sum(weight.pruned for weight in waiting)):
        yield from masks_above([(weight.values, weight.mask) for weight in waiting], rank, dtype)
        return
    threshold = _threshold(waiting, count, dtype)
    while waiting:
        yield threshold.mask(waiting.popleft(), dtype)


@dataclass
class _Threshold:
    """Magnitudes above it are kept; of those that equal it, the last ones are kept, too."""

    value: float
    ties: int
    """How many equal it in the tensors still to come; what is pruned already does not count."""
    ties_to_prune: int
    """How many of them have to go: those of the lowest flat indices."""

    def mask(self, weight: Weight, dtype: torch.dtype) -> Tensor:
        """Return the mask of the next tensor in flat order."""
        mask = torch.empty_like(weight.values, requires_grad=False, memory_format=torch.contiguous_format)
        targets = torch.split(mask.view(-1), _BLOCK)
        for target, (_, kept), magnitudes in zip(targets, _blocks(weight), _magnitudes(weight, dtype), strict=True):
            torch.gt(magnitudes, self.value, out=target)
            if self.ties_to_prune < self.ties and (equal := _array(magnitudes) == self.value).any():
                tied = torch.as_tensor(equal)
                indices = (tied if kept is None else tied & (kept == 1)).nonzero().flatten()
                target[indices[self.ties_to_prune :]] = 1
                self.ties -= indices.numel()
                self.ties_to_prune = max(0, self.ties_to_prune - indices.numel())
        return mask


def _are_on_one_accelerator(weights: Sequence[Weight]) -> bool:
    devices = {weight.values.device for weight in weights}
    return len(devices) == 1 and devices.pop().type != "cpu"


def _threshold(weights: Sequence[Weight], count: int, dtype: torch.dtype) -> _Threshold:
    """Return the threshold that prunes `count` more weights."""
    pruned = sum(weight.pruned for weight in weights)
    rank = pruned + count  # what is pruned already has the magnitude 0, and nothing is smaller
    if rank == 0:
        return _Threshold(-math.inf, 0, 0)
    low, high = _bracket(weights, rank, dtype)
    while True:
        below, inside = _split(weights, low, high, dtype)
        if below >= rank:
            low, high = -math.inf, low
        elif below + inside.numel() < rank:
            low, high = high, math.inf
        else:
            break
    value = inside.kthvalue(rank - below).values.item()
    ties = int((inside == value).sum())
    ties_to_prune = rank - below - int((inside < value).sum())
    gone = pruned if value == 0 else 0  # they tie, too
    return _Threshold(value, ties - gone, ties_to_prune - gone)


def _bracket(weights: Sequence[Weight], rank: int, dtype: torch.dtype) -> tuple[float, float]:
    """Guess from a sample two magnitudes between which the `rank`-th smallest should be."""
    total = sum(weight.values.numel() for weight in weights)
    stride = (total // _SAMPLE) | 1  # odd, so that it does not walk down one column of a matrix
    sample = np.sort(torch.cat([_sampled(weight, stride, dtype).cpu() for weight in weights]).numpy())
    first, last = bracket_places(rank, total, sample.size)
    low = sample[first].item() if first >= 0 else -math.inf
    high = sample[last].item() if last < sample.size else math.inf
    return low, high


def _sampled(weight: Weight, stride: int, dtype: torch.dtype) -> Tensor:
    """Return every `stride`-th magnitude."""
    values, kept = _flat(weight, stride)
    return _magnitude(values, kept, out=torch.empty(values.shape, dtype=dtype, device=values.device))


def _split(weights: Iterable[Weight], low: float, high: float, dtype: torch.dtype) -> tuple[int, Tensor]:
    """Return how many magnitudes are below `low`, and those in [low, high], on the first tensor's device."""
    below, inside = 0, []
    for weight in weights:
        for magnitudes in map(_array, _magnitudes(weight, dtype)):
            smaller = magnitudes < low
            below += int(_count(smaller))
            inside.append(torch.as_tensor(magnitudes[(magnitudes <= high) ^ smaller]))
    return below, torch.cat([part.to(inside[0].device) for part in inside])


def _array(block: Tensor) -> Any:
    """Return the block itself; on the CPU as numpy sees it, which compares and selects several times as fast."""
    return block.numpy() if block.device.type == "cpu" else block


def _count(condition: Any) -> Any:
    return np.count_nonzero(condition) if isinstance(condition, np.ndarray) else condition.sum()


def _magnitudes(weight: Weight, dtype: torch.dtype) -> Iterator[Tensor]:
    """Yield the magnitudes in flat order, block by block, each in the memory of the last."""
    memory = torch.empty(min(_BLOCK, weight.values.numel()), dtype=dtype, device=weight.values.device)
    for values, kept in _blocks(weight):
        yield _magnitude(values, kept, out=memory[: values.numel()])


def _blocks(weight: Weight) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield values and mask in flat order, block by block."""
    flat, mask = _flat(weight)
    values = torch.split(flat, _BLOCK)
    return zip(values, repeat(None, len(values)) if mask is None else torch.split(mask, _BLOCK), strict=True)


def _flat(weight: Weight, stride: int = 1) -> tuple[Tensor, Tensor | None]:
    values, mask, _ = weight
    return values.detach().reshape(-1)[::stride], None if mask is None else mask.reshape(-1)[::stride]


def _magnitude(values: Tensor, mask: Tensor | None, out: Tensor) -> Tensor:
    """Write the magnitudes into `out`: finite, and 0 where pruned."""
    largest = torch.finfo(out.dtype).max
    torch.abs(values.to(out.dtype), out=out).nan_to_num_(nan=largest, posinf=largest)
    return out if mask is None else out.mul_(mask)
