"""LG-FedAvg: the first layers are each client's own, the rest is shared (Liang et al. 2020, Algorithm 1)."""

from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.strategies.fedavg import FedAvg


class LGFedAvg(FedAvg):
    """`strategy.personal` names the local representation, as ["conv*"].

    Differs from the paper: there is no phase of plain FedAvg before. With the last layers as the personal ones this
    is FedPer (Arivazhagan et al. 2019).
    """

    name = "lg-fedavg"

    def personal(self, table: TensorTable) -> frozenset[str]:
        """Return the tensors of the local representation.

        Raises:
            ExperimentError: `strategy.personal` names none, or all.
        """
        return self.required_personal(table)
