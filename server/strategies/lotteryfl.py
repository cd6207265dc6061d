"""LotteryFL: each client finds its ticket by gated magnitude pruning with rewinding (Li et al. 2020, Algorithm 1)."""

from protos import lotteryfl_pb2 as pb
from server.strategies.base import Strategy

_SCOPES = {"global": pb.Plan.GLOBAL, "layer": pb.Plan.LAYER}
_REWINDS = {"initial": pb.Plan.INITIAL, "none": pb.Plan.NONE}


class LotteryFL(Strategy):
    """Per element the mean over the clients whose ticket keeps it.

    Differs from the paper's code: validation data of its own decides on pruning, weights are weighted by
    examples, and the last pruning stops exactly at the target density (`overshoot` brings theirs back).
    """

    name = "lotteryfl"
    prunes = True

    def plan(self) -> pb.Plan:
        """Prune when good enough, rewind, train, return the ticket."""
        settings = self.experiment.strategy
        prune = pb.Plan.Prune(
            rate=settings.prune_rate,
            target_density=settings.target_density,
            accuracy_threshold=settings.accuracy_threshold,
            scope=_SCOPES[settings.scope],
            overshoot=settings.overshoot,
        )
        return pb.Plan(prune=prune, rewind=_REWINDS[settings.rewind], train=self.local_training())
