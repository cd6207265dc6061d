"""Sub-FedAvg: pruning after training, no rewinding (Vahidian et al. 2021, "Personalized Federated Learning by
Structured and Unstructured Pruning under Data Heterogeneity", Algorithm 1)."""

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState
from lotteryfl.server.strategies.lotteryfl import LotteryFL


class SubFedAvg(LotteryFL):
    """Prunes when the masks of the first and the last epoch differ enough and accuracy holds.

    Per element the mean over the clients that keep it: the paper's average over the intersection.

    Differs from the paper's code: accuracy is judged before the pruning, on validation data, and the last epoch's
    mask is compared, not the fifth's.
    """

    name = "sub-fedavg"

    def check(self, table: TensorTable) -> None:
        """Check that there are two epochs to compare.

        Raises:
            ExperimentError: there are not, or as for every strategy.
        """
        super().check(table)
        training = self.experiment.training
        if (training.epochs < 2 or training.steps) and self.experiment.strategy.min_mask_change:
            key, value = ("steps", training.steps) if training.steps else ("epochs", training.epochs)
            raise ExperimentError(
                f"training.{key} = {value}: sub-fedavg compares the masks of the first and "
                f"the last epoch: expected {'0' if training.steps else 'at least 2'}, or strategy.min_mask_change = 0"
            )

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train, then prune when the masks still change."""
        del round_, client
        prune = self.pruning()
        prune.after_training = True
        prune.min_mask_change = self.experiment.strategy.min_mask_change
        return pb.Plan(prune=prune, train=self.local_training())
