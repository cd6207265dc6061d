"""FedRep: one representation for all, and a head of each client's own that is trained first (Collins et al. 2021,
"Exploiting Shared Representations for Personalized Federated Learning", Algorithm 1)."""

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState
from lotteryfl.server.strategies.fedper import FedPer
from lotteryfl.server.strategies.support.options import check_known, whole


class FedRep(FedPer):
    """In every round the head learns to go with the body as it came, which is frozen; then the body with that head.

    The head is named as the personalization layers of `fedper` are. Of the plan's epochs or steps the last
    `strategy.options.body` are the body's, by default 1, and all before are the head's. In the last round every client
    trains its head alone.

    Differs from the paper: a client's head begins from θ_0, the same for all, in place of values of its own; the mean
    is weighted by examples, unless aggregation.weighting = "equal"; the body is not initialised by the method of
    moments, which is for linear models.
    """

    name = "fedrep"
    local = "fedrep"

    def check(self, table: TensorTable) -> None:
        """Check also that head and body both have something to train, and time to.

        Raises:
            ExperimentError: one has not.
        """
        super().check(table)
        check_known(self.experiment, "body")
        unit, length = self._length
        if length < 2:
            raise ExperimentError(
                f"training.{unit} = {length}: strategy.name = {self.name!r} trains the head, then the body: expected 2 "
                "or more"
            )
        whole(self.experiment, "body", 1, least=1, most=length - 1, of=unit)
        own = self.personal(table)
        of_head = {spec.name in own for spec in table if spec.role == "parameter"}
        if len(of_head) < 2:
            part = "body" if True in of_head else "head"
            raise ExperimentError(
                f"strategy.personal = {self.experiment.strategy.personal}: leaves the {part} no parameter to train, "
                f"which strategy.name = {self.name!r} needs"
            )

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train the head, then the body."""
        del round_, client
        unit, length = self._length
        body = whole(self.experiment, "body", 1)
        return self._plan(self.local_training(), {"head": {unit: length - body}, "body": {unit: body}})

    def final_plan(self, client: ClientState) -> pb.Plan:
        """Train the head alone."""
        return self._plan(super().final_plan(client).train, {})

    @property
    def _length(self) -> tuple[str, int]:
        """In what local training is counted, and how long it is."""
        training = self.experiment.training
        return ("steps", training.steps) if training.steps else ("epochs", training.epochs)

    def _plan(self, train: pb.Plan.Train, lengths: dict[str, dict[str, int]]) -> pb.Plan:
        patterns = list(self.experiment.strategy.personal)
        return pb.Plan(train=train, local=self.local_plan({"patterns": patterns, **lengths}))
