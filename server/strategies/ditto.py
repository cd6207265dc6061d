"""Ditto: beside the shared model each client trains one of its own, pulled towards the shared one (Li et al. 2021,
"Ditto: Fair and Robust Federated Learning Through Personalization", Algorithm 1)."""

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState
from lotteryfl.server.strategies.support.options import check_known, number
from lotteryfl.server.strategies.support.ownmodel import WithOwnModel


class Ditto(WithOwnModel):
    """FedAvg, and v_k: gradients of F_k(v) + λ/2 ‖v - w‖², w being the shared model as downloaded.

    `strategy.options.lambda` is λ, 1 without: 0 is training alone, large ones hold v_k to the shared model (they want
    λ times the learning rate below 1). A client is measured by v_k, which is its ticket in the end.

    Differs from the paper: v_k begins as the first shared model that its client gets; it is trained for as long as the
    shared model, once more in the round after the last, and its batch norms' statistics begin each time as the shared
    model's. Clients weigh by their examples, without `aggregation.weighting = "equal"`.
    """

    name = "ditto"
    local = "ditto"

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        check_known(experiment, "lambda")
        self._pull = number(experiment, "lambda", 1.0)

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train the shared model, and the client's own beside it."""
        plan = super().plan(round_, client)
        plan.local.CopyFrom(self.local_plan({"lambda": self._pull}))
        return plan

    def final_plan(self, client: ClientState) -> pb.Plan:
        """Train the client's own model in the place of the shared one."""
        plan = super().final_plan(client)
        plan.train.proximal = self._pull
        plan.local.CopyFrom(self.local_plan({"only": True}))
        return plan
