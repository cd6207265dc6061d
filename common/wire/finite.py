"""Whether values are finite: large tensors one by one, where they lie, and small ones many at a time.

Those on a device are looked at there, and waited for once.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

from lotteryfl.common.transfer import fetched_counts

_TOGETHER = 1 << 16
"""Most elements that are copied to be looked at together."""


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Say whether all values of all floating-point tensors are finite; others have no other values.

    The extremes are finite exactly when all values are (NaN propagates), and take one pass and no memory.
    """
    floating = [tensor.detach() for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
    there = [tensor for tensor in floating if tensor.device.type != "cpu"]
    return _are_finite_here(tensor for tensor in floating if tensor.device.type == "cpu") and are_finite_there(there)


def are_finite_there(tensors: Iterable[Tensor]) -> bool:
    """Say whether all values are finite of floating-point tensors that hold some; a device is waited for once."""
    extremes = (torch.stack(torch.aminmax(tensor)) for tensor in tensors)
    return not any(fetched_counts(pair.isfinite().logical_not().sum() for pair in extremes))


def _are_finite_here(tensors: Iterable[Tensor]) -> bool:
    small: defaultdict[torch.dtype, list[Tensor]] = defaultdict(list)
    waiting = 0
    for tensor in tensors:
        if tensor.numel() > _TOGETHER:
            if not _is_finite(tensor):
                return False
            continue
        if waiting + tensor.numel() > _TOGETHER:
            if not _are_finite(small.values()):
                return False
            small.clear()
            waiting = 0
        small[tensor.dtype].append(tensor.reshape(-1))
        waiting += tensor.numel()
    return _are_finite(small.values())


def _are_finite(groups: Iterable[list[Tensor]]) -> bool:
    return all(_is_finite(torch.cat(group)) for group in groups)


def _is_finite(tensor: Tensor) -> bool:
    return all(bool(extreme.isfinite()) for extreme in torch.aminmax(tensor))
