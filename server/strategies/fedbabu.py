"""FedBABU: rounds train the body alone, under a head that stays as it began (Oh et al. 2022, "FedBABU: Toward Enhanced
Representation for Federated Image Classification", Algorithm 1)."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState, RoundOutcome
from lotteryfl.server.strategies.fedavg import FedAvg
from lotteryfl.server.strategies.support.layers import output_layer
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
        parameters = {spec.name for spec in table if spec.role == "parameter"}
        if not (head := self._head(table) & parameters) or head == parameters:
            raise ExperimentError(
                f"strategy.options.head = {self._pattern!r}: strategy.name = {self.name!r} needs a pattern that fits "
                f"some of the model's parameters, as 'fc3.*'; they are {', '.join(sorted(parameters))}"
            )

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train the body."""
        plan = super().plan(round_, client)
        patterns = [self._pattern] if self._pattern else []
        plan.local.CopyFrom(self.local_plan({"head": patterns}))
        return plan

    def after_round(self, outcome: RoundOutcome) -> Mapping[str, Tensor]:
        """Put back what a narrow wire dtype has rounded of the head."""
        before, after = outcome.before, outcome.aggregated
        parameters = {spec.name for spec in outcome.table if spec.role == "parameter"}
        head = self._head(outcome.table) & parameters & after.keys()
        return {name: before[name] for name in sorted(head) if not torch.equal(before[name], after[name])}

    @property
    def _pattern(self) -> str:
        return str(self.experiment.strategy.options.get("head", ""))

    def _head(self, table: TensorTable) -> frozenset[str]:
        if not self._pattern:
            return output_layer(table)
        return frozenset(spec.name for spec in table if fnmatchcase(spec.name, self._pattern))
