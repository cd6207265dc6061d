"""FedBN: batch norms are each client's own, the rest is shared (Li et al. 2021, "FedBN: Federated Learning on Non-IID
Features via Local Batch Normalization", Algorithm 1)."""

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.wire.layers import batch_norms
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.strategies.fedavg import FedAvg


class FedBN(FedAvg):
    """Weights, biases and statistics of the batch norms, known by their `running_mean`, are not averaged.

    Group and layer norms, which have no statistics of a client's data, are shared as in the paper; `strategy.personal`
    makes them a client's own too, as ["*norm*"], and is what a batch norm without statistics needs.

    Differs from the paper: the mean is weighted by examples, unless aggregation.weighting = "equal".
    """

    name = "fedbn"

    def personal(self, table: TensorTable) -> frozenset[str]:
        """Return the batch norms' tensors, beside those that the experiment names.

        Raises:
            ExperimentError: there are none.
        """
        own = super().personal(table) | batch_norms(table)
        if not own:
            raise ExperimentError(
                f"strategy.name = {self.name!r}: task.name = {self.experiment.task.name!r} has a model without batch "
                "norms, expected one with them, or its norms in strategy.personal"
            )
        return own
