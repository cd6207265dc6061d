"""SSFL: one mask for all, from aggregated saliency before training (Ohib et al. 2024, "SSFL: Discovering Sparse
Unified Subnetworks at Initialization for Efficient Federated Learning", Algorithm 1)."""

from collections.abc import Mapping

from torch import Tensor

from common.tensortable import TensorTable
from protos import lotteryfl_pb2 as pb
from server.strategies.base import ClientState, Outcome, Strategy
from server.strategies.sharedmask import largest


class SSFL(Strategy):
    """In round 1 clients send |gradient × weight| of θ_0; the largest means are kept; then FedAvg on that ticket.

    Differs from the paper: the clients of round 1 are a sample like any round's, and a client's gradient is over
    all its training data.
    """

    name = "ssfl"
    prunes = True

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Measure in round 1, train ever after."""
        del client
        return pb.Plan(measure_saliency=True) if round_ == 1 else pb.Plan(train=self.local_training())

    def conclude(self, round_: int, table: TensorTable, aggregated: Mapping[str, Tensor]) -> Outcome:
        """Make the mask of the mean saliencies; θ_0 stays the model."""
        if round_ > 1:
            return Outcome()
        density = self.experiment.strategy.target_density
        return Outcome(largest(table, aggregated, density), keeps_model=False)
