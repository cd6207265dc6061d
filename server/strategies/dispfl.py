"""DisPFL: every client's own mask, of constant density, is exchanged as it trains (Dai et al. 2022, "DisPFL: Towards
Communication-Efficient Personalized Federated Learning via Decentralized Sparse Training", Algorithms 1 and 2)."""

import math

from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState
from lotteryfl.server.strategies.fedavg import FedAvg
from lotteryfl.server.strategies.support.sharedmask import random_masks_by_size


class DisPFL(FedAvg):
    """Peers' models meet at the coordinator: a client starts from the mean of each weight over those who kept it last.

    Masks are drawn for each client, denser where tensors are small. After its training a client exchanges the kept
    weights of least magnitude, in every tensor, for those of greatest gradient; the share is `readjust_rate` at first,
    and decays as a cosine to 0 at the end of the run.

    Differs from the paper: a client's neighbours are all clients of the last round (the fully connected topology), in
    place of a few that change; who sits a round out does not train, and finds in its place what its weights have
    become. As in the paper the next mean is over the masks that clients have trained under, but what a client gives up
    goes up no more, and what nobody had comes as it last was in the shared model, not as 0. The mean is weighted by
    examples, unless aggregation.weighting = "equal"; gradients are over all training data, in its code over a batch.
    A client's personalised model is measured after the exchange, without what it has given up.
    """

    name = "dispfl"
    prunes = True
    mask_rule = "exchanges"
    counts_grown = False

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train, then exchange weights."""
        plan = super().plan(round_, client)
        share = (1 + math.cos(math.pi * (round_ - 1) / self.experiment.rounds)) / 2
        plan.readjust.rate = self.experiment.strategy.readjust_rate * share
        plan.readjust.after_training = True
        return plan

    def client_masks(self, client: int, table: TensorTable) -> Masks:
        """Return random masks of the client's own."""
        settings, seed = self.experiment.strategy, derive_seed(self.experiment.seed, "initial mask", client)
        return random_masks_by_size(table, settings.target_density, seed)
