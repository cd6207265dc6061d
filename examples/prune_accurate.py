"""LotteryFL in which the accurate prune more: how much goes depends on what a client was measured at last."""

from lotteryfl import ClientState
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.lotteryfl import LotteryFL


class PruneTheAccurate(LotteryFL):
    """Twice the last validation accuracy times `prune_rate`; at first `prune_rate`."""

    name = "prune-the-accurate"

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        plan = super().plan(round_, client)
        judged = client.metrics.validation if client.metrics else None
        if judged and judged.accuracy is not None:
            plan.prune.rate = min(1.0, 2 * judged.accuracy * plan.prune.rate)
        return plan
