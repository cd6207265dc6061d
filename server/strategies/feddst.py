"""FedDST: a mask of constant density that is exchanged as training goes (Bibikar et al. 2022, "Federated Dynamic
Sparse Training: Computing Less, Communicating Less, Yet Learning Better", Algorithm 1)."""

from collections.abc import Mapping

from torch import Tensor

from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState, Strategy
from lotteryfl.server.strategies.support.options import check_known
from lotteryfl.server.strategies.support.sharedmask import adjusted_share, adjusts
from lotteryfl.server.strategies.support.startingmask import (
    STARTING,
    check_starting,
    largest_in_layers,
    starting_mask,
)


class FedDST(Strategy):
    """All clients share one mask. Every `readjust_every` rounds they exchange weights of it.

    The new global mask keeps in every tensor the largest of what was aggregated. The exchanged share decays as a
    cosine to 0 at half of the rounds, as in the paper's code.

    Differs from the paper: the first mask is random and as dense in every tensor, unless `options.first_mask` =
    "magnitude" has it start from the largest of θ_0, as its code does, and `options.densities` = "erk" makes tensors
    as dense as their sizes say, as in the paper (its code's are between the two). Weights are exchanged after half of
    the local epochs, in its code by default after all, so that what comes goes up as 0.
    """

    name = "feddst"
    prunes = True
    starts_under = "shared mask"
    mask_rule = "exchanges"

    def check(self, table: TensorTable) -> None:
        """Check the options, too.

        Raises:
            ExperimentError: one makes no sense.
        """
        super().check(table)
        check_known(self.experiment, *STARTING)
        check_starting(self.experiment)

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train, and exchange weights when it is time."""
        del client
        plan = pb.Plan(train=self.local_training())
        if rate := self._exchanged(round_):
            plan.readjust.rate = rate
        return plan

    def masks_of_initial(self, table: TensorTable, initial: Mapping[str, Tensor]) -> Masks:
        """Return the first mask, drawn or of θ_0."""
        return starting_mask(self.experiment, table, initial)

    def next_masks(self, round_: int, table: TensorTable, aggregated: Mapping[str, Tensor]) -> Masks | None:
        """Make the next mask, where clients have come back with different ones."""
        if not self._exchanged(round_):
            return None
        return largest_in_layers(self.experiment, table, aggregated)

    def _exchanged(self, round_: int) -> float:
        """Return the share of the kept weights that a round exchanges."""
        return adjusted_share(self.experiment, round_) if adjusts(self.experiment, round_) else 0.0
