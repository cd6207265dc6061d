"""Hermes: structured pruning of whole rows and filters (Li et al. 2021, "Hermes: An Efficient Federated Learning
Framework for Heterogeneous Mobile Clients", section 3)."""

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState
from lotteryfl.server.strategies.lotteryfl import LotteryFL


class Hermes(LotteryFL):
    """After training, the rows and filters of least L1 norm go, where accuracy on validation data is good enough.

    Per element the mean over the clients that keep it: the paper's average over overlapping parameters.

    Differs from the paper: every layer but the last loses the same share of its rows; the inputs of the next layer
    that a pruned filter leaves without a signal stay in its mask.
    """

    name = "hermes"

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train, then prune rows."""
        del round_, client
        prune = self.pruning()
        prune.after_training = True
        prune.scope = pb.Plan.ROWS
        return pb.Plan(prune=prune, train=self.local_training())
