"""One step of pruning, as the plan says."""

from torch import nn

from common.pruning import Prunable, get_prune_summary, prune_fixed_amount
from common.pruningplan import weights_to_prune
from protos import lotteryfl_pb2 as pb


def prune_towards_target(model: nn.Module, prune: pb.Plan.Prune, prunable: Prunable) -> bool:
    """Prune the model in place by one step of the plan.

    Args:
        model: the client's ticket.
        prune: rate (share of the kept weights), target density, scope, and whether the last step overshoots.
        prunable: which weights count.

    Returns:
        False where nothing was pruned: the target is met or, with one threshold for each tensor, nearer than
        whole weights of every tensor's equal share allow.
    """
    summary = get_prune_summary(model, prunable)
    left = summary.total - summary.pruned
    amount = weights_to_prune(prune, summary.total, left)
    if amount == 0:
        return False
    if prune.scope == pb.Plan.GLOBAL:
        after = prune_fixed_amount(model, amount, verbose=False, prunable=prunable)
    else:
        # Every tensor loses the same share of what it has left; rounding is each tensor's own.
        share = amount / left
        after = prune_fixed_amount(model, share, verbose=False, scope="layer", prunable=prunable)
    return after.pruned > summary.pruned
