"""How far one pruning goes, by the plan: what a worker does, and what its coordinator believes."""

from lotteryfl.protos import lotteryfl_pb2 as pb


def weights_to_prune(prune: pb.Plan.Prune, total: int, left: int) -> int:
    """Return how many weights a pruning takes: the rate of what is left, the last one trimmed to meet the target.

    Args:
        prune: rate (share of the kept weights), target density, and whether the last step overshoots.
        total: prunable weights of the model.
        left: those of them that the mask keeps.
    """
    excess = left - round(prune.target_density * total)
    if excess <= 0:
        return 0
    amount = round(prune.rate * left)
    return amount if prune.overshoot else min(amount, excess)
