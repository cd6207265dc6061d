"""One step of pruning, as the plan says."""

from collections.abc import Mapping

from torch import Tensor, nn

from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.magnitude import Weight, counts_pruned, masks_without_smallest
from lotteryfl.common.pruning.prunable import Prunable, prunable_tensors
from lotteryfl.common.pruning.prune import get_prune_summary, prune_fixed_amount
from lotteryfl.common.pruning.rows import prune_rows
from lotteryfl.common.pruning.step import weights_to_prune
from lotteryfl.common.transfer import fetched_counts
from lotteryfl.common.wire.payload import prunable_weights
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb


def prune_towards_target(model: nn.Module, prune: pb.Plan.Prune, prunable: Prunable) -> bool:
    """Prune the model in place by one step of the plan.

    Args:
        model: the client's ticket.
        prune: rate (share of the kept weights), target density, scope, and whether the last step overshoots.
        prunable: which weights count.

    Returns:
        False where nothing was pruned: the target is met or, with a threshold or rows for each tensor, nearer than
        whole weights or rows of every tensor's equal share allow.
    """
    summary = get_prune_summary(model, prunable)
    left = summary.total - summary.pruned
    amount = weights_to_prune(prune, summary.total, left)
    if amount == 0:
        return False
    share = amount / left  # of every tensor, in the other scopes; rounding is its own
    if prune.scope == pb.Plan.GLOBAL:
        after = prune_fixed_amount(model, amount, verbose=False, prunable=prunable)
    elif prune.scope == pb.Plan.LAYER:
        after = prune_fixed_amount(model, share, verbose=False, scope="layer", prunable=prunable)
    else:
        after = prune_rows(model, share, prunable=prunable)
    return after.pruned > summary.pruned


def is_due(prune: pb.Plan.Prune, table: TensorTable, masks: Masks) -> bool:
    """Say whether the target leaves anything to prune of a model under these masks."""
    total, left = prunable_weights(table, masks)
    return weights_to_prune(prune, total, left) > 0


def mask_change(model: nn.Module, earlier: Mapping[str, Tensor], prune: pb.Plan.Prune, prunable: Prunable) -> float:
    """Return in which share of the prunable weights the next masks differ, made from now and from earlier values.

    Args:
        model: the client's ticket, trained.
        earlier: its prunable tensors by plain name, as they were under the same masks.
        prune: how the next masks would be made, by a global threshold or one for each tensor.
        prunable: which weights count.
    """
    found = prunable_tensors(model, prunable)
    summary = get_prune_summary(model, prunable)
    total_left = summary.total - summary.pruned
    amount = weights_to_prune(prune, summary.total, total_left)
    pruned = dict(zip(found, counts_pruned([item.mask for item in found]), strict=True))
    groups = [found] if prune.scope == pb.Plan.GLOBAL else [[item] for item in found]
    differing: list[Tensor] = []
    for group in groups:
        left = sum(item.tensor.numel() - pruned[item] for item in group)
        count = round(amount * left / total_left)
        now, then = (
            masks_without_smallest([Weight(values[item.name], item.mask, pruned[item]) for item in group], count)
            for values in ({item.name: item.tensor for item in group}, earlier)
        )
        differing += [(a != b).sum() for a, b in zip(now, then, strict=True)]
    return sum(fetched_counts(differing)) / summary.total
