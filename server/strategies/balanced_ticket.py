"""Balanced ticket: one mask for all that is pruned in two stages, and training that every client balances by its own
classes.

Our own combination. The loss is the balanced softmax (Ren et al. 2020, "Balanced Meta-Softmax for Long-Tailed Visual
Recognition"; for federated training as Zhang et al. 2022, "Federated Learning with Label Distribution Skew via Logits
Calibration", and Chen and Chao 2022, "On Bridging Generic and Personalized Federated Learning for Image
Classification"). The mask begins as SSFL's (Ohib et al. 2024), and shrinks by the schedule of Zhu and Gupta 2017, "To
Prune, or Not to Prune", equation 1, and the score of LAMP (Lee et al. 2021, "Layer-Adaptive Sparsity for the
Magnitude-Based Pruning", equation 4). docs/own-method.md has what each of them brings.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.settings import ServerSettings
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.among import largest_among
from lotteryfl.common.wire.layers import output_bias
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState
from lotteryfl.server.strategies.ssfl import SSFL
from lotteryfl.server.strategies.support.options import check_known, check_left, number, whole
from lotteryfl.server.strategies.support.servermomentum import with_momentum


class BalancedTicket(SSFL):
    """Half of a round's clients send saliencies in round 1; the largest make a mask that is `options.first` (4) times
    as dense as the target. After each round up to `options.pruned_by` (10) the server keeps fewer, by its own weights;
    a run of fewer rounds ends denser than the target.

    A client trains logits + `options.prior` (1) · log π, π being its own shares of the classes, one example more of
    each counted. The shared model is what is left without: it takes no class to be more likely than another, whoever
    trained it. What a client is measured by has its log π, which the client knows before it has trained; no share is
    ever sent but with its last result, where log π is in the output layer's bias, so that its ticket is whole.
    """

    name = "balanced-ticket"
    settles_mask = False
    local = "balanced-ticket"

    def check(self, table: TensorTable) -> None:
        """Check the options, too, and that there are classes to balance.

        Raises:
            ExperimentError: one makes no sense, or there are none.
        """
        super().check(table)
        check_known(self.experiment, "first", "pruned_by", "prior")
        self._prior()
        self._density(1)
        if self.score.own:
            raise ExperimentError(
                f"strategy.name = {self.name!r}: this task has an objective of its own, judged by {self.score.name!r}: "
                "expected classification, whose classes can be balanced"
            )
        check_left(self.experiment, "strategy.prunable", "matrices", "the output layer's bias is not pruned")
        if not output_bias(table):
            raise ExperimentError(
                f"strategy.name = {self.name!r}: a client's log π is kept in the output layer's bias: expected a model "
                f"that has one, whose tensors are not {', '.join(spec.name for spec in table)}"
            )

    def sample_size(self, round_: int) -> int:
        """Return how many clients take part: in round 1 half of them, or all where all are asked."""
        size = super().sample_size(round_)
        return (size + 1) // 2 if round_ == 1 and not self._asks_everyone(1) else size

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Measure in round 1; then train, balanced."""
        plan = super().plan(round_, client)
        if self.trains(round_):
            plan.local.CopyFrom(self.local_plan({"prior": self._prior(), "keeps": False}))
        return plan

    def final_plan(self, client: ClientState) -> pb.Plan:
        """Train once more, and keep the client's log π in its ticket."""
        plan = super().final_plan(client)
        plan.local.CopyFrom(self.local_plan({"prior": self._prior(), "keeps": True}))
        return plan

    def server_optimizer(self) -> ServerSettings:
        """Return SGD with a learning rate of 0.5 and a momentum of 0.9, if the experiment says nothing else."""
        return with_momentum(super().server_optimizer())

    def next_masks(self, round_: int, table: TensorTable, aggregated: Mapping[str, Tensor]) -> Masks | None:
        """Make the first mask of the mean saliencies, the next ones of the shared weights' scores."""
        if round_ > self._pruned_by:
            return None
        names = [spec.name for spec in table if spec.prunable]
        total = sum(aggregated[name].numel() for name in names)
        kept = [aggregated[name] != 0 if round_ > 1 else torch.ones_like(aggregated[name]).bool() for name in names]
        scores = [_lamp(aggregated[name]) if round_ > 1 else aggregated[name] for name in names]
        masks = largest_among(scores, kept, round(self._density(round_) * total))
        return {name: packedmasks.pack(mask) for name, mask in zip(names, masks, strict=True)}

    @property
    def _pruned_by(self) -> int:
        return whole(self.experiment, "pruned_by", 10, least=1, of="rounds")

    def _density(self, round_: int) -> float:
        """Return what is kept after a round, from `first` times the target to the target."""
        target = self.experiment.strategy.target_density
        first = min(1.0, target * number(self.experiment, "first", 4.0, least=1))
        gone = (round_ - 1) / (self._pruned_by - 1) if self._pruned_by > 1 else 1.0
        return target + (first - target) * (1 - gone) ** 3

    def _prior(self) -> float:
        return number(self.experiment, "prior", 1.0)


def _lamp(weight: Tensor) -> Tensor:
    """Return of each weight its square over the sum of the squares that are not smaller in its tensor; 0 of zeros."""
    squares = weight.double().square().numpy().ravel()
    order = np.argsort(-squares, kind="stable")
    sums = np.cumsum(squares[order])  # one after the other, whatever the number of threads
    scores = np.zeros_like(squares)
    scores[order] = np.divide(squares[order], sums, out=np.zeros_like(sums), where=sums > 0)
    return torch.from_numpy(scores).view(weight.shape)
