"""FedSelect: the weights that move most become a client's own (Tamirisa et al. 2024, "FedSelect: Personalized
Federated Learning with Customized Selection of Parameters for Fine-Tuning", Algorithm 1)."""

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState
from lotteryfl.server.strategies.fedavg import FedAvg


class FedSelect(FedAvg):
    """The inverse of a ticket: the mask is of what is shared, and shrinks as the personal part grows.

    Per element the mean over the clients that still share it. As workers keep nothing, the personal part travels
    with its client, and its bytes count.

    Differs from the paper: personal and shared weights are trained together, not in turn, and one threshold goes
    through all tensors.
    """

    name = "fedselect"
    prunes = True
    owns_unkept = True

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train everything, then take over what has moved most."""
        del round_, client
        settings = self.experiment.strategy
        select = pb.Plan.Select(rate=settings.personal_rate, limit=settings.personal_limit)
        return pb.Plan(train=self.local_training(), select=select, owns_unkept=True)
