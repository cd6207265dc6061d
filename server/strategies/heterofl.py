"""HeteroFL: clients of less means train the first units of every layer (Diao et al. 2021, "HeteroFL: Computation and
Communication Efficient Federated Learning for Heterogeneous Clients", Algorithm 1)."""

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.wire.layers import batch_norms
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.strategies.fedavg import FedAvg
from lotteryfl.server.strategies.support.widths import masks_of_width


class HeteroFL(FedAvg):
    """Client k has the width `strategy.widths[k mod their number]`, for the whole run: a mask over the one model.

    Each weight is averaged over those who have it. With `strategy.prunable = "every-parameter"` the mask goes over
    biases and norms too, as in the paper; else a unit that a client lacks has no gradient there, and its bias comes
    back into the mean as it went out, but for weight decay. The statistics of batch norms are each client's own.

    Differs from the paper: the mean is weighted by examples, unless aggregation.weighting = "equal"; statistics of a
    client's own in place of static batch norm; no scaler and no masked cross entropy; a client's class never changes;
    group and layer norms see the zeros of units that a client lacks. What is handled are chains and residual networks
    of linear layers and convolutions; embeddings and attention are not.
    """

    name = "heterofl"
    prunes = True

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        self._of_width: dict[float, Masks] = {}

    def check(self, table: TensorTable) -> None:
        """Check also that the model can be had in every width.

        Raises:
            ExperimentError: it cannot.
        """
        super().check(table)
        for client in range(len(self.experiment.strategy.widths)):
            self.client_masks(client, table)

    def client_masks(self, client: int, table: TensorTable) -> Masks:
        """Return the mask of the client's class; of the whole width, none.

        Raises:
            ExperimentError: of a layer's inputs it is not known whose outputs they are.
        """
        widths = self.experiment.strategy.widths
        width = widths[client % len(widths)]
        if width not in self._of_width:
            self._of_width[width] = masks_of_width(table, width) if width < 1 else {}
        return self._of_width[width]

    def personal(self, table: TensorTable) -> frozenset[str]:
        """Return the batch norms' statistics, beside the tensors that the experiment names."""
        return super().personal(table) | {name for name in batch_norms(table) if table[name].role == "buffer"}
