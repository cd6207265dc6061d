"""FedAvg: dense local training, mean weighted by examples (McMahan et al. 2017, Algorithm 1)."""

from protos import lotteryfl_pb2 as pb
from server.strategies.base import Strategy


class FedAvg(Strategy):
    """One shared dense model."""

    name = "fedavg"

    def plan(self) -> pb.Plan:
        """Train and return everything."""
        return pb.Plan(train=self.local_training())
