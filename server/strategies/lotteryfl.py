"""LotteryFL: each client finds its ticket by gated magnitude pruning with rewinding (Li et al. 2020, Algorithm 1)."""

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState, Strategy

SCOPES = {"global": pb.Plan.GLOBAL, "layer": pb.Plan.LAYER}
_REWINDS = {"initial": pb.Plan.INITIAL, "everything": pb.Plan.EVERYTHING, "none": pb.Plan.NONE}
_OFFICIAL_TEST_EXAMPLES = 80


class LotteryFL(Strategy):
    """Per element the mean over the clients whose ticket keeps it.

    Differs from the paper's code: validation data of its own decides on pruning, clients are weighted by examples,
    the last pruning stops exactly at the target density, one threshold goes through all tensors, and biases are not
    rewound. `strategy.preset = "paper"` brings all five back.
    """

    name = "lotteryfl"
    prunes = True

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Prune when good enough, rewind, train, return the ticket."""
        del round_, client
        return pb.Plan(prune=self.pruning(), rewind=self.rewinding(), train=self.local_training())

    def pruning(self) -> pb.Plan.Prune:
        """Return one step of pruning, as the experiment has it."""
        settings = self.experiment.strategy
        return pb.Plan.Prune(
            rate=settings.prune_rate,
            target_density=settings.target_density,
            accuracy_threshold=0.0 if self.score.own else settings.accuracy_threshold,
            score_threshold=settings.score_threshold,
            scope=SCOPES[settings.scope],
            overshoot=settings.overshoot,
            gate_test_examples=_OFFICIAL_TEST_EXAMPLES if settings.gate == "test" else 0,
        )

    def rewinding(self) -> "pb.Plan.Rewind.ValueType":
        """Return what a pruning takes back to θ_0."""
        return _REWINDS[self.experiment.strategy.rewind]
