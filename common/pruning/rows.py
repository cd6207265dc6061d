"""Structured pruning: whole rows of matrices and whole filters of convolutions."""

import torch
from torch import Tensor, nn

from lotteryfl.common.pruning.modeltensors import ModelTensor
from lotteryfl.common.pruning.prunable import Prunable, prunable_tensors
from lotteryfl.common.pruning.prune import get_prune_summary
from lotteryfl.common.pruning.state import settle, where_made
from lotteryfl.common.pruning.summary import PruneSummary


def prune_rows(model: nn.Module, share: float, *, prunable: Prunable = "matrices") -> PruneSummary:
    """Prune in every prunable tensor but the last a share of the rows that are left: those of least L1 norm.

    The masks are those of `torch.nn.utils.prune.ln_structured` with n = 1 and dim = 0, applied again and again,
    but that one row of every tensor always stays. The last tensor is the output layer, whose rows are the
    classes. Of equal norms the lower index goes first.

    Args:
        model: any module; pruned in place, on top of what is pruned already.
        share: in [0, 1], of the rows of a tensor that are not pruned whole; rounded to whole rows.
        prunable: see `common.pruning.prunable.Prunable`.

    Returns:
        The summary after pruning.

    Raises:
        ValueError: share is out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share={share}: expected 0 to 1")
    with where_made(model):
        for item in prunable_tensors(model, prunable)[:-1]:
            if item.tensor.dim():
                _prune_rows_of(item, share)
        settle(model)
    return get_prune_summary(model, prunable)


def _prune_rows_of(item: ModelTensor, share: float) -> None:
    weights, mask = item.tensor.detach(), item.mask
    new = torch.ones_like(weights) if mask is None else mask.clone()
    alive = _rows(new).any(dim=1)
    left = int(alive.sum())
    count = min(round(share * left), left - 1)
    if count <= 0:
        return
    norms = (_rows(weights) * _rows(new)).abs().sum(dim=1).masked_fill(~alive, torch.inf)
    new[norms.sort(stable=True).indices[:count]] = 0
    item.put_mask(new)


def _rows(tensor: Tensor) -> Tensor:
    return tensor.reshape(tensor.shape[0], -1)
