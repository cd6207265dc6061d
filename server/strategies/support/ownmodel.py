"""What strategies have in common whose clients each have a model of their own beside the shared one."""

from collections.abc import Sequence

import torch

from lotteryfl.common.wire.strategytensor import StrategyTensor
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.strategies.fedavg import FedAvg
from lotteryfl.server.strategies.support.sharing import check_some_shared


class WithOwnModel(FedAvg):
    """FedAvg, and a model of each client's own, which goes back and forth with it."""

    def check(self, table: TensorTable) -> None:
        """Check as all do, and that there is a shared model beside the client's own.

        Raises:
            ExperimentError: there is none, or as all do.
        """
        super().check(table)
        check_some_shared(self, table)

    def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
        """Return the own model, and whether it has begun: it is 0 before."""
        del table
        return (StrategyTensor("personal", "own", like="parameters"), StrategyTensor("begun", "own", dtype=torch.bool))
