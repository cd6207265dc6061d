"""SpaFL: clients share thresholds of units and filters, and no weight (Kim et al. 2024, "SpaFL: Communication-Efficient
Federated Learning with Sparse Models and Low Computational Overhead", Algorithm 1)."""

from collections.abc import Sequence

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.settings import AggregationSettings
from lotteryfl.common.wire.strategytensor import StrategyTensor
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState, Strategy
from lotteryfl.server.strategies.support.options import check_known, check_left, number

_NO_MODEL = "all of the model is each client's own"


class SpaFL(Strategy):
    """A row of weights is pruned where its mean magnitude is not above its threshold, which is trained with them.

    Thresholds alone are averaged, all clients alike; `strategy.options.sparsity` is the weight of Σ exp(-τ) in the
    loss, by default 0.002. A client that hears that a threshold has fallen makes that row's weights larger, and smaller
    where it has risen. What a client is measured by is its model without the rows that are pruned, and after the last
    round they are 0 in its ticket. As workers keep nothing, its weights, pruned ones too, and the thresholds that it
    has heard last travel with the client, and their bytes count: what the paper sends is the thresholds' part of them.

    Differs from the paper: the step's gradient goes to the threshold alone, not to the magnitudes that it is compared
    with; what a row is changed by is divided by its number of weights, also of a filter, where the paper's code takes
    the number of its positions; who sat rounds out hears of all their changes at once; and the thresholds of a layer of
    which next to nothing is left are not set back, as in that code. `training.clip_grad_norm` is of the gradients of
    weights and thresholds together. Density in tables is of masks that weights travel under, of which there are none:
    1.
    """

    name = "spafl"
    local = "spafl"

    def check(self, table: TensorTable) -> None:
        """Check also that options are its own, and that nothing is said of a model that all share.

        Raises:
            ExperimentError: they are not, or something is.
        """
        super().check(table)
        check_known(self.experiment, "sparsity")
        self._local_plan()
        check_left(self.experiment, "server.optimizer", "none", _NO_MODEL)
        if keeps := self.experiment.evaluation.said_to_keep():
            expected = "false" if keeps.endswith("true") else "'last'"
            raise ExperimentError(f"{keeps}: with strategy.name = {self.name!r} {_NO_MODEL}: expected {expected}")
        if bound := self.experiment.checks.max_update_norm:
            raise ExperimentError(
                f"checks.max_update_norm = {bound:g}: with strategy.name = {self.name!r} {_NO_MODEL}: expected 0"
            )

    def personal(self, table: TensorTable) -> frozenset[str]:
        """Return all of the model."""
        return super().personal(table) | {spec.name for spec in table}

    def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
        """Return the thresholds, and those that a client has heard last."""
        del table
        return (
            StrategyTensor("threshold", "shared", like="prunable", by_row=True),
            StrategyTensor("heard", "own", like="prunable", by_row=True),
        )

    def aggregation(self, round_: int) -> AggregationSettings:
        """Return the experiment's, by which all count alike."""
        return super().aggregation(round_).model_copy(update={"weighting": "equal"})

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train weights and thresholds."""
        del round_, client
        return pb.Plan(train=self.local_training(), local=self._local_plan())

    def final_plan(self, client: ClientState) -> pb.Plan:
        """Train once more, and leave zeros where rows are pruned."""
        return pb.Plan(train=super().final_plan(client).train, local=self._local_plan(is_final=True))

    def _local_plan(self, *, is_final: bool = False) -> pb.Plan.Local:
        return self.local_plan({"sparsity": number(self.experiment, "sparsity", 0.002), "final": is_final})
