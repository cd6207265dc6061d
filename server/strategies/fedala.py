"""FedALA: each client learns how much of the shared model's top layers it takes, element by element (Zhang et al. 2023,
"FedALA: Adaptive Local Aggregation for Personalized Federated Learning", Algorithm 1)."""

from collections.abc import Sequence

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.wire.layers import is_matrix, module_of
from lotteryfl.common.wire.strategytensor import StrategyTensor
from lotteryfl.common.wire.table import TensorSpec, TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState
from lotteryfl.server.strategies.fedavg import FedAvg
from lotteryfl.server.strategies.support.options import check_known, number, whole
from lotteryfl.server.strategies.support.sharing import check_all_shared


class FedALA(FedAvg):
    """Before a client trains, its top layers are its last ones moved towards the shared ones: Θ_k + (Θ - Θ_k) W.

    The top is the last `strategy.options.layers` modules with a matrix, 1 without, and what the model has behind the
    first of them. W begins as 1 and stays within [0, 1]; it takes plain steps of `eta`, 1 without, for an epoch before
    each round's training, and for `start_epochs`, 10 without, when there is a last model for the first time.

    Differs from the paper: the first time has a fixed length, in place of until W converges; W sees all of the
    client's examples (s = 100). A schedule over a round's epochs counts W's too. In the round after the last all do the
    same once more.
    """

    name = "fedala"
    local = "fedala"

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        check_known(experiment, "layers", "eta", "start_epochs")
        self._layers = whole(experiment, "layers", 1, least=1)
        self._start_epochs = whole(experiment, "start_epochs", 10, least=1)
        self._eta = number(experiment, "eta", 1.0)

    def check(self, table: TensorTable) -> None:
        """Check as all do, that all of the model is shared, and that training is in epochs, as W's is.

        Raises:
            ExperimentError: something is not, or as all do.
        """
        super().check(table)
        check_all_shared(self, table, "weighs what all share")
        if steps := self.experiment.training.steps:
            raise ExperimentError(
                f"training.steps = {steps}: strategy.name = {self.name!r} trains its weights for whole epochs: "
                "expected 0, and training.epochs"
            )

    def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
        """Return Θ_k and W of the top's parameters, by their place in it."""
        top = list(enumerate(self._top(table)))
        return (
            *(StrategyTensor(f"last.{place}", "own", shape=spec.shape) for place, spec in top),
            *(StrategyTensor(f"weight.{place}", "own", shape=spec.shape, fill=1.0) for place, spec in top),
        )

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train W, put the model together, then train it."""
        plan = super().plan(round_, client)
        plan.local.CopyFrom(self._weighing(client))
        return plan

    def final_plan(self, client: ClientState) -> pb.Plan:
        """Do as in every round."""
        plan = super().final_plan(client)
        plan.local.CopyFrom(self._weighing(client))
        return plan

    def _weighing(self, client: ClientState) -> pb.Plan.Local:
        """Return what the clients' half is told: nothing to weigh where the client has no last model."""
        epochs = {0: 0, 1: self._start_epochs}.get(len(client.rounds), 1)
        return self.local_plan({"epochs": epochs, "eta": self._eta})

    def _top(self, table: TensorTable) -> list[TensorSpec]:
        """Return the top's parameters, which are the model's last ones.

        Raises:
            ExperimentError: the model has not so many layers.
        """
        parameters = [spec for spec in table.in_model if spec.role == "parameter"]
        layers = list(dict.fromkeys(module_of(spec.name) for spec in parameters if is_matrix(spec)))
        if len(layers) < self._layers:
            raise ExperimentError(
                f"strategy.options.layers = {self._layers}: the model has {len(layers)} modules with a matrix, and "
                f"strategy.name = {self.name!r} weighs so many of the last ones: expected no more, and at least one"
            )
        first = [module_of(spec.name) for spec in parameters].index(layers[-self._layers])
        return parameters[first:]
