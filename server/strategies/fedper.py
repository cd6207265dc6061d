"""FedPer: the last layers are each client's own, the rest is shared (Arivazhagan et al. 2019, "Federated Learning with
Personalization Layers", Algorithms 1 and 2)."""

from lotteryfl.common.wire.layers import output_layer
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.strategies.fedavg import FedAvg


class FedPer(FedAvg):
    """`strategy.personal` names the personalization layers, as ["fc2.*", "fc3.*"]; without, it is the output layer.

    The output layer is the last module with a matrix, in the order in which the model has them.

    Differs from the paper: a client's layers begin from θ_0, the same for all, in place of values of its own.
    """

    name = "fedper"

    def personal(self, table: TensorTable) -> frozenset[str]:
        """Return the tensors of the personalization layers.

        Raises:
            ExperimentError: `strategy.personal` names all, or nothing and there is no output layer.
        """
        if not self.experiment.strategy.personal and (own := output_layer(table)) and len(own) < len(table):
            return own
        return self.required_personal(table)
