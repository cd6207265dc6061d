"""FedPM: random weights that never change, under a mask that is learned (Isik et al. 2023, "Sparse Random Networks for
Communication-Efficient Federated Learning", Algorithms 1 and 2)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lotteryfl.common.wire.strategytensor import StrategyTensor
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState, RoundOutcome, Strategy
from lotteryfl.server.strategies.support.options import check_known, check_left, number, whole


class FedPM(Strategy):
    """Every prunable weight of θ_0 has a probability to be kept; clients train it, and send a mask that is drawn by it.

    All parameters stay as θ_0 has them, and go down with it once. A round carries probabilities down, in float32, and
    one bit for each prunable weight up, beside the buffers of a model that has some. The server has a Beta(α, β) for
    each probability, to which it adds the masks' ones and zeros; what goes down next is its mode, (α - 1) / (α + β -
    2). α = β = `strategy.options.prior`, by default 1, every `reset_every` rounds, by default as many as all clients
    need to take part once. What is measured is a model whose mask is drawn, as the paper's final one: by the
    probabilities as they came down, and after training the mask that goes up. What is exported is θ_0, and beside it
    the probabilities.

    Differs from the paper: weights are as the task draws them, not ±σ of their layer, and biases and norms without a
    mask, unless `strategy.prunable = "every-parameter"`; the probabilities begin as 1/2; masks travel a bit each, not
    coded; density in tables is of masks that weights travel under, of which there are none: 1.
    """

    name = "fedpm"
    local = "fedpm"

    def check(self, table: TensorTable) -> None:
        """Check also that options, evaluation and the server's part are its own.

        Raises:
            ExperimentError: they are not.
        """
        super().check(table)
        check_known(self.experiment, "prior", "reset_every")
        number(self.experiment, "prior", 1, least=1)
        self._reset_every()
        why = "the model is θ_0 under a mask that its clients draw"
        check_left(self.experiment, "evaluation.global_every", 0, why)
        check_left(self.experiment, "server.optimizer", "none", "parameters stay as θ_0 has them")

    def fixed(self, table: TensorTable) -> frozenset[str]:
        """Return all parameters."""
        return frozenset(spec.name for spec in table if spec.role == "parameter")

    def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
        """Return the probabilities, of how many masks they are since α and β were the prior, and the masks."""
        del table
        return (
            StrategyTensor("probability", "shared", like="prunable", combine="none", fill=0.5),
            StrategyTensor("counted", "shared", (1,), combine="none"),
            StrategyTensor("mask", "up", like="prunable", dtype=torch.bool, combine="sum"),
        )

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train the probabilities, and send a mask."""
        del round_, client
        return pb.Plan(train=self.local_training(), local=self.local_plan(), sends=["mask"])

    def final_plan(self, client: ClientState) -> pb.Plan:
        """Do the same once more: a client's ticket is its last mask."""
        plan = super().final_plan(client)
        plan.MergeFrom(pb.Plan(local=self.local_plan(), sends=["mask"]))
        return plan

    def after_round(self, outcome: RoundOutcome) -> Mapping[str, Tensor]:
        """Return the modes of the new posteriors; θ and the number of masks say what α and β were."""
        prior = number(self.experiment, "prior", 1)
        before = 0.0 if (outcome.round - 1) % self._reset_every() == 0 else outcome.before["counted"].item()
        counted = before + len(outcome.results)
        values = {"counted": torch.full((1,), counted)}
        for name, old in outcome.before.items():
            if name.startswith("probability:"):
                ones = (old.double() * (before + 2 * prior - 2) - (prior - 1)).round() if before else 0
                ones = ones + outcome.aggregated[name.replace("probability", "mask", 1)].double()
                values[name] = ((ones + prior - 1) / (counted + 2 * prior - 2)).float()
        return values

    def _reset_every(self) -> int:
        once = -(-self.experiment.participants // self.experiment.clients_per_round)
        return whole(self.experiment, "reset_every", once, least=1, of="rounds")
