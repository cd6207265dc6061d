"""FedDST: a mask of constant density that is exchanged as training goes (Bibikar et al. 2022, "Federated Dynamic
Sparse Training: Computing Less, Communicating Less, Yet Learning Better", Algorithm 1)."""

from collections.abc import Mapping

from torch import Tensor

from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState, Strategy
from lotteryfl.server.strategies.support.sharedmask import adjusted_share, adjusts, largest_of_each, random_masks


class FedDST(Strategy):
    """All clients share one mask, at first random. Every `readjust_every` rounds they exchange weights of it.

    The new global mask keeps in every tensor the largest of what was aggregated. The exchanged share decays as a
    cosine to 0 at half of the rounds, as in the paper's code.

    Differs from the paper: every tensor has the same density (theirs are by layer size), and weights are exchanged
    after half of the local epochs.
    """

    name = "feddst"
    prunes = True
    starts_under = "shared mask"
    mask_rule = "exchanges"

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train, and exchange weights when it is time."""
        del client
        plan = pb.Plan(train=self.local_training())
        if rate := self._exchanged(round_):
            plan.readjust.rate = rate
        return plan

    def initial_masks(self, table: TensorTable) -> Masks:
        """Return random masks of the target density."""
        return random_masks(table, self.experiment.strategy.target_density, self.experiment.seed)

    def next_masks(self, round_: int, table: TensorTable, aggregated: Mapping[str, Tensor]) -> Masks | None:
        """Make the next mask, where clients have come back with different ones."""
        if not self._exchanged(round_):
            return None
        return largest_of_each(table, aggregated, self.experiment.strategy.target_density)

    def _exchanged(self, round_: int) -> float:
        """Return the share of the kept weights that a round exchanges."""
        return adjusted_share(self.experiment, round_) if adjusts(self.experiment, round_) else 0.0
