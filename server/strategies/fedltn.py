"""FedLTN: pruning without rewinding, batch norm kept local, server momentum, jump start (Mugunthan et al. 2022,
"FedLTN: Federated Learning for Sparse and Personalized Lottery Ticket Networks", section 3)."""

from lotteryfl.common.experiment.settings import ServerSettings
from lotteryfl.common.wire.layers import batch_norms
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState
from lotteryfl.server.strategies.lotteryfl import LotteryFL


class FedLTN(LotteryFL):
    """LotteryFL that never rewinds, with every client's batch norm (weights, biases, statistics) its own.

    The server's momentum is that of `[server] optimizer = "sgd"`, unless the experiment names another. A jump start
    (`strategy.jump_start_epochs`) makes round 1 one of long local training, whose best client by validation
    accuracy gives the global model.

    Differs from the paper: the jump start goes over the sampled clients of one round and does not prune.
    """

    name = "fedltn"

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Prune when good enough and train on from there; in a jump start's round, train alone and be judged."""
        epochs = self.experiment.strategy.jump_start_epochs
        if round_ == 1 and epochs:
            judged = pb.Plan.Prune(target_density=1, after_training=True)
            return pb.Plan(prune=judged, train=pb.Plan.Train(epochs=epochs))
        plan = super().plan(round_, client)
        plan.rewind = pb.Plan.NONE
        return plan

    def takes_best(self, round_: int) -> bool:
        """Say whether the best client's model becomes the global one."""
        return round_ == 1 and bool(self.experiment.strategy.jump_start_epochs)

    def server_optimizer(self) -> ServerSettings:
        """Return SGD with momentum, if the experiment says nothing else."""
        settings = super().server_optimizer()
        return settings.model_copy(update={"optimizer": "sgd"}) if settings.optimizer == "none" else settings

    def personal(self, table: TensorTable) -> frozenset[str]:
        """Return the batch norms' tensors, beside those that the experiment names."""
        return super().personal(table) | batch_norms(table)
