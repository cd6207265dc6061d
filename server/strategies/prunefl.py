"""PruneFL: the one mask follows what weights do for the loss and cost in time (Jiang et al. 2022, "Model Pruning
Enables Efficient Federated Learning on Edge Devices", Algorithms 1 and 2)."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.among import largest_among
from lotteryfl.common.wire.strategytensor import StrategyTensor
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState, Strategy
from lotteryfl.server.strategies.support.options import check_known, number, whole


class PruneFL(Strategy):
    """In the first `options.initial_rounds` (1) client `options.initial_client` (0) trains alone, and each of these
    reconfigures the mask; then all train as ever, and every `readjust_every` rounds reconfigure it.

    The kept weights of every tensor but the smallest `readjust_rate` (halved in `options.half_life` rounds, 10000)
    stay. Beside them those are kept whose squared gradient is above Γ: the squared gradients of all that is kept,
    biases and norms too, over the time of a round, which is `options.overhead` (0.14) · all prunable weights +
    those kept. Which makes Γ largest. No more come than `target_density` has room for (a bound of its code); what
    comes begins at 0.

    Differs from the paper: every weight takes the same time (theirs is measured on devices, layer by layer), and the
    first pruning lasts so many rounds, not until the size settles. Gradients are added up over the steps, then squared,
    as in its code, but of the round that reconfigures, not of all since the last one; they travel for all parameters,
    not for pruned ones alone. A kept weight that is exactly 0 counts as pruned.
    """

    name = "prunefl"
    prunes = True
    starts_under = "shared mask"
    local = "prunefl"

    def check(self, table: TensorTable) -> None:
        """Check the options, too.

        Raises:
            ExperimentError: one makes no sense.
        """
        super().check(table)
        check_known(self.experiment, "initial_rounds", "initial_client", "half_life", "overhead")
        self.sample(1)
        self._movable(1)
        self._overhead()
        if self.experiment.rounds <= self._initial_rounds:
            raise ExperimentError(
                f"rounds = {self.experiment.rounds}: with strategy.name = {self.name!r} one client trains alone in the "
                f"first {self._initial_rounds}: expected more"
            )

    def sample_size(self, round_: int) -> int:
        """Return how many clients take part: one in the first rounds."""
        return 1 if round_ <= self._initial_rounds else super().sample_size(round_)

    def sample(self, round_: int) -> list[int]:
        """Return the one client in the first rounds."""
        if round_ > self._initial_rounds:
            return super().sample(round_)
        return [whole(self.experiment, "initial_client", 0, most=self.experiment.participants - 1)]

    def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
        """Declare the squared gradients."""
        del table
        return (StrategyTensor("importance", "up", like="parameters"),)

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train, and send squared gradients when it is time."""
        del client
        plan = pb.Plan(train=self.local_training())
        if self._reconfigures(round_):
            plan.local.CopyFrom(self.local_plan())
            plan.sends.append("importance")
        return plan

    def next_masks(self, round_: int, table: TensorTable, aggregated: Mapping[str, Tensor]) -> Masks | None:
        """Keep what makes Γ largest."""
        if not self._reconfigures(round_):
            return None
        names, movable = [spec.name for spec in table if spec.prunable], self._movable(round_)
        staying: list[Tensor] = []
        for name in names:
            kept = aggregated[name] != 0
            count = int(kept.sum())
            staying += largest_among([aggregated[name]], [kept], count - int(movable * count))
        importance = [aggregated[f"importance:{name}"] for name in names]
        total = sum(mask.numel() for mask in staying)
        fixed = sum(_sum(aggregated[f"importance:{s.name}"]) for s in table if s.role == "parameter" and not s.prunable)
        wanted = _most_for_the_time(importance, staying, fixed, self._overhead() * total)
        room = max(0, round(self.experiment.strategy.target_density * total) - sum(int(mask.sum()) for mask in staying))
        coming = largest_among(importance, [~mask for mask in staying], min(wanted, room))
        both = zip(names, staying, coming, strict=True)
        return {name: packedmasks.pack(stays | comes) for name, stays, comes in both}

    @property
    def _initial_rounds(self) -> int:
        return whole(self.experiment, "initial_rounds", 1)

    def _reconfigures(self, round_: int) -> bool:
        further = round_ - self._initial_rounds
        return further <= 0 or further % self.experiment.strategy.readjust_every == 0

    def _movable(self, round_: int) -> float:
        """Return the share of a tensor's kept weights that may go."""
        half_life = number(self.experiment, "half_life", 10000, least=1)
        return float(self.experiment.strategy.readjust_rate * 0.5 ** (round_ / half_life))

    def _overhead(self) -> float:
        return number(self.experiment, "overhead", 0.14)


def _most_for_the_time(importance: Sequence[Tensor], staying: Sequence[Tensor], fixed: float, time: float) -> int:
    """Return how many of the others make Γ largest, beside those that stay: the most important ones.

    They are those above the Γ that they come to, which is found by Dinkelbach's iteration (1967) in place of Algorithm
    2's sort: from above the Γ without them, fewer from step to step.
    """
    gain = fixed + sum(_sum(each[mask]) for each, mask in zip(importance, staying, strict=True))
    time += sum(int(mask.sum()) for mask in staying)
    others = [each.masked_fill(mask, 0) for each, mask in zip(importance, staying, strict=True)]
    count, ratio = sum(each.numel() for each in others) + 1, gain / time if time else 0.0
    while True:
        above = [each > ratio for each in others]
        fewer = sum(int(mask.sum()) for mask in above)
        if fewer >= count:  # rounding alone has it rise
            return count
        count = fewer
        more = sum(_sum(each[mask]) for each, mask in zip(others, above, strict=True))
        ratio = (gain + more) / (time + fewer) if time + fewer else 0.0


def _sum(values: Tensor) -> float:
    """Return a sum whose bits do not go by the number of threads."""
    return float(np.sum(values.numpy(), dtype=np.float64))
