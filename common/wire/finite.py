"""Whether values are finite: large tensors one by one, where they lie, and small ones many at a time."""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

_TOGETHER = 1 << 16
"""Most elements that are copied to be looked at together."""


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Say whether all values of all floating-point tensors are finite; others have no other values."""
    small: defaultdict[tuple[torch.dtype, torch.device], list[Tensor]] = defaultdict(list)
    waiting = 0
    for tensor in tensors:
        if not tensor.is_floating_point() or tensor.numel() == 0:
            continue
        if tensor.numel() > _TOGETHER:
            if not _is_finite(tensor):
                return False
            continue
        if waiting + tensor.numel() > _TOGETHER:
            if not _are_finite(small.values()):
                return False
            small.clear()
            waiting = 0
        small[tensor.dtype, tensor.device].append(tensor.detach().reshape(-1))
        waiting += tensor.numel()
    return _are_finite(small.values())


def _are_finite(groups: Iterable[list[Tensor]]) -> bool:
    return all(_is_finite(torch.cat(group)) for group in groups)


def _is_finite(tensor: Tensor) -> bool:
    # The extremes are finite exactly when all values are (NaN propagates), and take one pass and no memory.
    return all(bool(extreme.isfinite()) for extreme in torch.aminmax(tensor))
