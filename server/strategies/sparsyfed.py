"""SparsyFed: weights that are trained as powers stay sparse (Guastella et al. 2025, "SparsyFed: Sparse Adaptive
Federated Training", section 3)."""

from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState, Strategy
from lotteryfl.server.strategies.support.options import check_known, flag, number


class SparsyFed(Strategy):
    """Clients train φ in the place of w = φ|φ|^(β - 1), and keep the largest weights; pruned ones count as zeros.

    Gradients of small weights are small then, and those of zeros are 0: what everybody has pruned stays so, and masks
    come to agree. In backward passes a layer's inputs are pruned to the density of its weights. `strategy.options.beta`
    is β, by default 1.25; `options.prune_activations = false` leaves inputs whole. Pruned inputs cost another forward
    pass of each layer; `training.compile` changes nothing.

    Differs from the paper: what is averaged, and travels, are weights w, in its code φ; inputs are pruned by every
    batch's own threshold, in its code convolutions keep the first one's; what goes down is whole, zeros too. A
    tensor that is all 0 in θ_0, as an adapter's second matrix, is trained as it is, for a power of 0 never trains: of
    other tensors an exact 0 stays one. The last round, in which every client personalises, is one more of the same.
    """

    name = "sparsyfed"
    local = "sparsyfed"
    prunes = True
    starts_under = "no mask"
    counts_zeros = True

    def check(self, table: TensorTable) -> None:
        """Check also the options.

        Raises:
            ExperimentError: one is no option, or has no such value.
        """
        super().check(table)
        check_known(self.experiment, "beta", "prune_activations")
        self._options()

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train φ, then prune to the target density in one step."""
        del round_, client
        return self._plan(self.local_training())

    def final_plan(self, client: ClientState) -> pb.Plan:
        """Train φ from the final model, and prune."""
        return self._plan(super().final_plan(client).train)

    def _plan(self, train: pb.Plan.Train) -> pb.Plan:
        density = self.experiment.strategy.target_density
        prune = pb.Plan.Prune(rate=1 - density, target_density=density, after_training=True)
        return pb.Plan(train=train, prune=prune, local=self.local_plan(self._options()))

    def _options(self) -> dict[str, float | bool]:
        return {
            "beta": number(self.experiment, "beta", 1.25, least=1),
            "prune_activations": flag(self.experiment, "prune_activations", default=True),
        }
