"""FedAvg: dense local training, mean weighted by examples (McMahan et al. 2017, Algorithm 1)."""

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState, Strategy


class FedAvg(Strategy):
    """One shared dense model."""

    name = "fedavg"

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train and return everything."""
        del round_, client
        return pb.Plan(train=self.local_training())
