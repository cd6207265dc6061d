"""SSFL: one mask for all, from aggregated saliency before training (Ohib et al. 2024, "SSFL: Discovering Sparse
Unified Subnetworks at Initialization for Efficient Federated Learning", Algorithm 1)."""

from collections.abc import Mapping

from torch import Tensor

from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState, Strategy
from lotteryfl.server.strategies.sharedmask import largest


class SSFL(Strategy):
    """In round 1 clients send |gradient × weight| of θ_0; the largest means are kept; then FedAvg on that ticket.

    Differs from the paper: the clients of round 1 are a sample like any round's, and a client's gradient is over
    all its training data.
    """

    name = "ssfl"
    prunes = True
    starts_under = "shared mask"
    settles_mask = True

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Measure in round 1, train ever after."""
        del client
        return pb.Plan(measure_saliency=True) if round_ == 1 else pb.Plan(train=self.local_training())

    def trains(self, round_: int) -> bool:
        """Say that round 1 measures saliencies: θ_0 stays the model."""
        return round_ > 1

    def next_masks(self, round_: int, table: TensorTable, aggregated: Mapping[str, Tensor]) -> Masks | None:
        """Make the mask of the mean saliencies."""
        return largest(table, aggregated, self.experiment.strategy.target_density) if round_ == 1 else None
