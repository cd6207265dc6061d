"""APFL: each client mixes a model of its own with the shared one (Deng et al. 2020, "Adaptive Personalized Federated
Learning", Algorithm 1, with the adaptive mixing weight of its section on adaptively updating α)."""

from collections.abc import Sequence

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.wire.strategytensor import StrategyTensor
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState
from lotteryfl.server.strategies.support.options import check_known, flag, number
from lotteryfl.server.strategies.support.ownmodel import WithOwnModel


class APFL(WithOwnModel):
    """FedAvg of w, and v that learns where the mixture α v + (1 - α) w is wrong; clients are measured by the mixture.

    `strategy.options.alpha` is α, 0.5 without: 0 is FedAvg, 1 is training alone. Unless `adaptive` is false it is where
    each client's own begins, which takes a step of gradient descent in every round.

    Differs from the paper: v begins as the first shared model that its client gets, and the mixture's batch norms'
    statistics begin each time as the shared model's; nothing is projected, but α to [0, 1];
    `training.clip_grad_norm` is of the gradients of v and w together. In the round after the last all train once more,
    and the mixture is the ticket. Clients weigh by their examples, without `aggregation.weighting = "equal"`.
    """

    name = "apfl"
    local = "apfl"

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        check_known(experiment, "alpha", "adaptive")
        self._alpha = number(experiment, "alpha", 0.5, most=1.0)
        self._adaptive = flag(experiment, "adaptive", default=True)

    def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
        """Return v, whether it has begun, and α."""
        return (*super().tensors(table), StrategyTensor("alpha", "own", fill=self._alpha))

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train both models by the same steps."""
        plan = super().plan(round_, client)
        plan.local.CopyFrom(self.local_plan({"adaptive": self._adaptive}))
        return plan

    def final_plan(self, client: ClientState) -> pb.Plan:
        """Train both once more, and leave the mixture."""
        plan = super().final_plan(client)
        plan.local.CopyFrom(self.local_plan({"adaptive": self._adaptive, "leaves_mixture": True}))
        return plan
