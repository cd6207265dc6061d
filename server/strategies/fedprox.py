"""FedProx: FedAvg with a pull towards the global model in every local step (Li et al. 2020, Algorithm 2)."""

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.fedavg import FedAvg


class FedProx(FedAvg):
    """Differs from the paper: all clients do all epochs, none sends partial work."""

    name = "fedprox"

    def local_training(self) -> pb.Plan.Train:
        """Return the experiment's local training with the proximal term."""
        train = super().local_training()
        train.proximal = self.experiment.strategy.proximal
        return train
