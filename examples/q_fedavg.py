"""q-FedAvg (Li et al. 2020, "Fair Resource Allocation in Federated Learning"): clients of larger loss weigh more."""

from lotteryfl import ClientResult, ClientState
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.fedavg import FedAvg


class QFedAvg(FedAvg):
    """The mean by weights n_k F_k(w)^q: Algorithm 2 with h_k = L F_k(w)^q, out of which L cancels.

    Differs from the paper: h_k is without q F_k(w)^(q-1) ||L (w - w_k)||^2, which shortens the step; n_k weighs clients
    that are drawn evenly, where the paper draws by it; F_k is the loss on validation data, not on training data.
    """

    name = "q-fedavg"

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        plan = super().plan(round_, client)
        plan.prune.target_density = 1  # nothing goes, but the model is judged as it was downloaded
        return plan

    def weight(self, result: ClientResult) -> float:
        judged = result.metrics.validation
        q = float(self.experiment.strategy.options.get("q", 1))
        return float(result.examples * min(judged.loss, 1e6) ** q) if judged else 0.0
