"""SSFL: one mask for all, from aggregated saliency before training (Ohib et al. 2024, "SSFL: Discovering Sparse
Unified Subnetworks at Initialization for Efficient Federated Learning", Algorithm 1)."""

from collections.abc import Mapping

from torch import Tensor

from lotteryfl.common.experiment.settings import AggregationSettings
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState, Strategy
from lotteryfl.server.strategies.support.sharedmask import largest


class SSFL(Strategy):
    """In round 1 clients send |gradient × weight| of θ_0; the largest means are kept; then FedAvg on that ticket.

    With `strategy.saliency_from = "everyone"` it is as in the paper's code: round 1 is every client's, and all count
    alike, whatever their examples; what is kept is the largest of the sum.

    Differs from the paper: a client's gradient is over all its training data, unless `strategy.saliency_examples` says
    of how many it is (its code: of a batch); and, with "sample", the clients of round 1 are a sample like any round's.
    """

    name = "ssfl"
    prunes = True
    starts_under = "shared mask"
    settles_mask = True

    def sample_size(self, round_: int) -> int:
        """Return how many clients take part: in round 1 all, where all are asked for."""
        return self.experiment.participants if self._asks_everyone(round_) else super().sample_size(round_)

    def aggregation(self, round_: int) -> AggregationSettings:
        """Return the experiment's, by which all count alike where all are asked."""
        settings = super().aggregation(round_)
        return settings.model_copy(update={"weighting": "equal"}) if self._asks_everyone(round_) else settings

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Measure in round 1, train ever after."""
        del client
        if round_ > 1:
            return pb.Plan(train=self.local_training())
        return pb.Plan(measure_saliency=True, saliency_examples=self.experiment.strategy.saliency_examples)

    def trains(self, round_: int) -> bool:
        """Say that round 1 measures saliencies: θ_0 stays the model."""
        return round_ > 1

    def next_masks(self, round_: int, table: TensorTable, aggregated: Mapping[str, Tensor]) -> Masks | None:
        """Make the mask of the mean saliencies."""
        return largest(table, aggregated, self.experiment.strategy.target_density) if round_ == 1 else None

    def _asks_everyone(self, round_: int) -> bool:
        return round_ == 1 and self.experiment.strategy.saliency_from == "everyone"
