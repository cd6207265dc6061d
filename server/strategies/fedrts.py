"""FedRTS: the one mask is drawn by Thompson sampling (Huang et al. 2025, "FedRTS: Federated Robust Pruning via
Combinatorial Thompson Sampling", Algorithm 1)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.distributions import Beta

from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.among import largest_among
from lotteryfl.common.wire.strategytensor import StrategyTensor
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState, RoundOutcome, Strategy
from lotteryfl.server.strategies.support.options import check_known, check_left, number
from lotteryfl.server.strategies.support.sharedmask import (
    adjusted_share,
    adjusting_ends,
    adjusts,
)
from lotteryfl.server.strategies.support.startingmask import (
    STARTING,
    check_starting,
    largest_in_layers,
    starting_densities,
    starting_mask,
)


class FedRTS(Strategy):
    """Every weight has a Beta distribution of being worth its place, at first uniform. In every `readjust_every`th
    round, up to half of them, a sample of each is drawn, and every tensor keeps its largest.

    Of K kept weights of a tensor K - κ are in question, a share that decays from `readjust_rate` by a cosine. What a
    round says of a kept weight is (1 - γ) · whether it is among the κ largest of the mean + γ · the share of clients
    of which it is among the κ largest; of a pruned one, in rounds that draw, (1 - γ) / 2 + γ · the share of clients
    whose gradient of it is among their K - κ largest. Of that X, α grows by λX, and β by λ(1 - X). γ is `options.gamma`
    (0.5), λ `options.strength` (10).

    Differs from the paper: the first mask is random and as dense in every tensor, unless `options.first_mask` =
    "magnitude" and `options.densities` = "erk" have it start from the largest of θ_0 by layer size, as its code does;
    the mask changes up to half of the rounds unless `readjust_until` says up to which (there 300 of 500), gradients are
    over all of a client's training data. A client says of each weight whether it is among its largest, a bit, in which
    all clients count alike; there, by examples, weights say it, and indices of gradients. α and β go down with the
    model, though no client looks at them. A kept weight that is exactly 0 counts as pruned.
    """

    name = "fedrts"
    prunes = True
    starts_under = "shared mask"
    local = "fedrts"

    def check(self, table: TensorTable) -> None:
        """Check the options and the rule, too.

        Raises:
            ExperimentError: one makes no sense.
        """
        super().check(table)
        check_known(self.experiment, "gamma", "strength", *STARTING)
        check_starting(self.experiment)
        check_left(self.experiment, "aggregation.rule", "mean", "weights go by the share of clients that want them")
        self._gamma()
        self._strength()

    def masks_of_initial(self, table: TensorTable, initial: Mapping[str, Tensor]) -> Masks:
        """Return the first mask, drawn or of θ_0."""
        return starting_mask(self.experiment, table, initial)

    def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
        """Declare the distributions, and what clients say of weights."""
        del table
        return (
            StrategyTensor("alpha", "shared", like="prunable", combine="none", fill=1.0),
            StrategyTensor("beta", "shared", like="prunable", combine="none", fill=1.0),
            StrategyTensor("outcome", "up", like="prunable", dtype=torch.bool),
        )

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train, and say which weights are large as long as the mask may change."""
        del client
        plan = pb.Plan(train=self.local_training())
        if self._observes(round_):
            options = {"share": adjusted_share(self.experiment, round_), "grows": adjusts(self.experiment, round_)}
            plan.local.CopyFrom(self.local_plan(options))
            plan.sends.append("outcome")
        return plan

    def after_round(self, outcome: RoundOutcome) -> Mapping[str, Tensor]:
        """Return the distributions, with what the round has said."""
        if not self._observes(outcome.round):
            return {}
        gamma, strength = self._gamma(), self._strength()
        draws = adjusts(self.experiment, outcome.round)
        densities = starting_densities(self.experiment, outcome.table)
        values: dict[str, Tensor] = {}
        for spec in outcome.table:
            if not spec.prunable:
                continue
            mean = outcome.aggregated[spec.name]
            kept = mean != 0
            count = round(densities[spec.name] * spec.numel)
            core = count - int(adjusted_share(self.experiment, outcome.round) * count)
            (largest,) = largest_among([mean], [kept], core)
            by_all = torch.where(kept, largest.float(), 0.5)
            said = (1 - gamma) * by_all + gamma * outcome.aggregated[f"outcome:{spec.name}"]
            of = strength * (torch.ones_like(kept) if draws else kept)
            values[f"alpha:{spec.name}"] = outcome.before[f"alpha:{spec.name}"] + of * said
            values[f"beta:{spec.name}"] = outcome.before[f"beta:{spec.name}"] + of * (1 - said)
        return values

    def next_masks(self, round_: int, table: TensorTable, aggregated: Mapping[str, Tensor]) -> Masks | None:
        """Draw a sample of each distribution, and keep every tensor's largest."""
        if not adjusts(self.experiment, round_):
            return None
        names = [spec.name for spec in table if spec.prunable]
        drawn = {name: Beta(aggregated[f"alpha:{name}"], aggregated[f"beta:{name}"]).sample() for name in names}
        return largest_in_layers(self.experiment, table, drawn)

    def _observes(self, round_: int) -> bool:
        return round_ <= adjusting_ends(self.experiment)

    def _gamma(self) -> float:
        return number(self.experiment, "gamma", 0.5, most=1)

    def _strength(self) -> float:
        return number(self.experiment, "strength", 10)
