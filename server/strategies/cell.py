"""CELL: every round a fresh mask from the whole global model (Seo et al. 2021, "Communication-Efficient and
Personalized Federated Lottery Ticket Learning", Algorithm 1)."""

from protos import lotteryfl_pb2 as pb
from server.strategies.base import ClientState
from server.strategies.lotteryfl import LotteryFL


class Cell(LotteryFL):
    """Clients start from the whole model, prune it when it is good enough, and train it whole otherwise.

    A client's threshold decays by `strategy.threshold_decay` in every round in which it did not prune, and is back
    when it did; each pruning goes a step of `prune_rate` of all weights further than the client's ticket before.
    Pruned weights count as zeros in the mean, weighted by examples.

    Differs from the paper's code: validation data decides, and the threshold that decays is each client's own.
    """

    name = "cell"
    starts_under = "no mask"
    counts_zeros = True

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Prune the whole model to the client's next density when it is good enough, rewind, train."""
        plan = super().plan(round_, client)
        settings = self.experiment.strategy
        plan.prune.rate = min(1 - client.density + settings.prune_rate, 1 - settings.target_density)
        plan.prune.accuracy_threshold *= settings.threshold_decay ** _rounds_without_pruning(client)
        return plan

    def final_plan(self, client: ClientState) -> pb.Plan:
        """Make a mask of the client's own density from the final model, and personalise under it."""
        plan = super().final_plan(client)
        if client.density < 1:
            plan.prune.CopyFrom(self.pruning())
            plan.prune.rate = 1 - client.density
            plan.prune.target_density = client.density
            plan.prune.accuracy_threshold = 0
        return plan


def _rounds_without_pruning(client: ClientState) -> int:
    rounds = 0
    for density in reversed(client.densities):
        if density < 1:
            break
        rounds += 1
    return rounds
