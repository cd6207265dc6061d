"""FLASC: sparse communication, dense training (Kuo et al. 2024, "Federated LoRA with Sparse Communication", Algorithm
1)."""

from collections.abc import Mapping

from torch import Tensor

from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState, Strategy
from lotteryfl.server.strategies.support.options import check_known, number
from lotteryfl.server.strategies.support.sharedmask import so_many_largest
from lotteryfl.server.strategies.support.sharing import check_all_shared


class FLASC(Strategy):
    """The server sends the largest of the shared weights, anew in each round; a client trains all of them, those that
    have come as 0 too, and returns the largest of its changes; what it does not return counts as no change.

    The server's own model stays whole: weights that are too small to be sent keep their values, and grow by what comes
    back. `strategy.options.density_down` and `density_up` are the shares that are sent and returned, of the prunable
    weights, over all tensors; by default both are `strategy.target_density`. With a model of a frozen backbone and
    LoRA's matrices it is the paper's method; any other model will do. `[server]` says what becomes of the mean change:
    the paper's FedAdam is `server.optimizer = "adam"`.

    Differs from the paper: what is not prunable, as biases, travels whole and takes no place among the largest; masks
    have bytes, too, which its figures leave out; densities do not decay from round to round, as its code can have them;
    clients count by their examples unless `aggregation.weighting = "equal"`, as in its code; and what is measured as
    shared is the model as it is sent in the next round, under the mask of its own weights. After the last round every
    client trains once more from what it is sent, and has all of that as its ticket.
    """

    name = "flasc"
    local = "flasc"
    prunes = True
    starts_under = "sent mask"
    mask_rule = "free"
    counts_zeros = True
    sends_changes = True

    def check(self, table: TensorTable) -> None:
        """Check also the options, and that nothing is a client's own: it would be changes that come back of it.

        Raises:
            ExperimentError: they are not, or something is.
        """
        super().check(table)
        check_known(self.experiment, "density_down", "density_up")
        check_all_shared(self, table, "returns changes of what all share")
        for key in ("density_down", "density_up"):
            self._density(key)

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train all of it, and return the largest changes."""
        del round_, client
        return self._plan(self.local_training(), self._density("density_up"))

    def final_plan(self, client: ClientState) -> pb.Plan:
        """Train once more, and return the model."""
        return self._plan(super().final_plan(client).train, None)

    def masks_of_initial(self, table: TensorTable, initial: Mapping[str, Tensor]) -> Masks:
        """Make the mask of what is sent in the first round."""
        return self.next_masks(0, table, initial) or {}

    def next_masks(self, round_: int, table: TensorTable, aggregated: Mapping[str, Tensor]) -> Masks | None:
        """Make the mask of what is sent next: the largest of the shared weights, as they are then."""
        del round_
        total = sum(spec.numel for spec in table if spec.prunable)
        count = int(self._density("density_down") * total)
        return so_many_largest(table, aggregated, count) if count < total else None

    def _plan(self, train: pb.Plan.Train, density: float | None) -> pb.Plan:
        most = pb.Plan.FreeMask(density=1 if density is None else density)
        return pb.Plan(train=train, free_mask=most, local=self.local_plan({"keeps": density}))

    def _density(self, key: str) -> float:
        return number(self.experiment, key, self.experiment.strategy.target_density, least=1e-6, most=1)
