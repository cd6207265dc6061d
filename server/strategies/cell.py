"""CELL: every round a fresh mask from the whole global model (Seo et al. 2021, "Communication-Efficient and
Personalized Federated Lottery Ticket Learning", Algorithm 1)."""

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState
from lotteryfl.server.strategies.lotteryfl import LotteryFL

_ROUNDING = 1e-9
"""By how much a density may be off, a number of weights divided by another."""


class Cell(LotteryFL):
    """Clients start from the whole model, prune it when it is good enough, and train it whole otherwise.

    A client's threshold decays by `strategy.threshold_decay` in every round in which it did not prune, and is back
    when it did; each pruning goes a step of `prune_rate` of all weights further than the client's last, and rewinds.
    Once it has met the target, it prunes to it in every round, whatever its score, and goes on from there.
    Pruned weights count as zeros in the mean, weighted by examples.

    Differs from the paper's code: validation data decides.
    """

    name = "cell"
    starts_under = "no mask"
    counts_zeros = True

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Prune the whole model to the client's next density when it is good enough, rewind, train."""
        settings, reached = self.experiment.strategy, _reached(client)
        if reached <= settings.target_density + _ROUNDING:
            return pb.Plan(prune=self._pruning_to(reached), train=self.local_training())
        plan = super().plan(round_, client)
        plan.prune.rate = min(1 - reached + settings.prune_rate, 1 - settings.target_density)
        decay = settings.threshold_decay ** _rounds_without_pruning(client)
        plan.prune.accuracy_threshold *= decay
        if plan.prune.HasField("score_threshold"):
            plan.prune.score_threshold = self.score.lenient(plan.prune.score_threshold, decay)
        return plan

    def final_plan(self, client: ClientState) -> pb.Plan:
        """Make a mask of the density that the client has reached from the final model, and personalise under it."""
        plan = super().final_plan(client)
        if (reached := _reached(client)) < 1:
            plan.prune.CopyFrom(self._pruning_to(reached))
        return plan

    def _pruning_to(self, density: float) -> pb.Plan.Prune:
        prune = self.pruning()
        prune.rate, prune.target_density, prune.accuracy_threshold = 1 - density, density, 0
        prune.ClearField("score_threshold")
        return prune


def _reached(client: ClientState) -> float:
    """Return the least density that the client has had: rounds in which it did not prune change nothing of it."""
    return min(client.densities, default=1.0)


def _rounds_without_pruning(client: ClientState) -> int:
    rounds = 0
    for density in reversed(client.densities):
        if density < 1:
            break
        rounds += 1
    return rounds
