"""FedBABU: rounds train the body alone, under a head that stays as it began (Oh et al. 2022, "FedBABU: Toward Enhanced
Representation for Federated Image Classification", Algorithm 1)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.wire.layers import head_and_body
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState, RoundOutcome
from lotteryfl.server.strategies.fedavg import FedAvg
from lotteryfl.server.strategies.support.options import check_known
from lotteryfl.server.strategies.support.sharing import check_some_shared


class FedBABU(FedAvg):
    """The head is that of θ_0 for all clients in all rounds; in the last one every client fine-tunes everything.

    `strategy.options.head` names the head by a shell pattern, as "fc3.*"; without, it is the output layer: the last
    module with a matrix, in the order in which the model has them.

    Differs from the paper: the head goes down and comes back with the body, as all of the model does.
    """

    name = "fedbabu"
    local = "fedbabu"

    def check(self, table: TensorTable) -> None:
        """Check also that there are a head and a body, and that something is shared.

        Raises:
            ExperimentError: one has no parameter, or nothing is.
        """
        super().check(table)
        check_some_shared(self, table)
        check_known(self.experiment, "head")
        head, body = head_and_body(table, self._patterns)
        if not (head and body):
            raise ExperimentError(
                f"strategy.options.head = {''.join(self._patterns)!r}: strategy.name = {self.name!r} needs a pattern "
                f"that fits some of the model's parameters, as 'fc3.*'; they are {', '.join(sorted(head + body))}"
            )

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train the body."""
        plan = super().plan(round_, client)
        plan.local.CopyFrom(self.local_plan({"head": self._patterns}))
        return plan

    def after_round(self, outcome: RoundOutcome) -> Mapping[str, Tensor]:
        """Put back what a narrow wire dtype has rounded of the head."""
        before, after = outcome.before, outcome.aggregated
        head, _ = head_and_body(outcome.table, self._patterns)
        return {name: before[name] for name in head if name in after and not torch.equal(before[name], after[name])}

    @property
    def _patterns(self) -> list[str]:
        pattern = str(self.experiment.strategy.options.get("head", ""))
        return [pattern] if pattern else []
