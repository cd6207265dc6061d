"""FedTiny: the mask is chosen by batch norms' statistics of all, then exchanged by gradients (Huang et al. 2023,
"Distributed Pruning Towards Tiny Neural Networks in Federated Learning", Algorithms 1 and 2)."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.among import largest_among
from lotteryfl.common.pruning.candidates import candidate_counts
from lotteryfl.common.wire.finite import all_finite
from lotteryfl.common.wire.strategytensor import StrategyTensor
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState, RoundOutcome, Strategy
from lotteryfl.server.strategies.support.options import check_known, check_left, number, whole
from lotteryfl.server.strategies.support.sharedmask import adjusted_share, adjusts

_LOOKS, _JUDGES = 1, 2
"""The rounds before training: in the first clients say which statistics the candidates' batch norms have on their data,
in the second which loss the candidates have with the mean of these."""


class FedTiny(Strategy):
    """Of θ_0 `options.candidates` (10) are pruned by magnitude to `target_density`, each with other shares of its
    tensors: by noise of up to `options.noise` (0.5) times the density, but for the first. With statistics that are the
    mean of all clients', one has the least mean loss: all train that.

    In every `readjust_every`th round up to half of them a share of a tensor's kept weights, which decays from
    `readjust_rate` by a cosine, is exchanged: the pruned weights of the largest mean gradients come, of which each
    client sends as many, its largest; the smallest weights go. With `options.blocks` = "fc3.*; fc[12].*" one block of
    tensors has its turn in each of these rounds (in the paper from output to input); by default all have.

    Differs from the paper: the noise, and half of the rounds as the end of exchanges (or `readjust_until`), are our
    own; a client's development data is its training data, over all of which gradients are. They are sent whole, with
    zeros, not as indices and values, for which a sparse tensor that goes up would be needed. The first two rounds send
    θ_0 down and up, which is dense, not pruned candidates down, and a client takes a step in them that is undone. A
    kept weight that is exactly 0 counts as pruned.
    """

    name = "fedtiny"
    prunes = True
    starts_under = "shared mask"
    local = "fedtiny"

    def check(self, table: TensorTable) -> None:
        """Check the options and the rule, too.

        Raises:
            ExperimentError: one makes no sense.
        """
        super().check(table)
        check_known(self.experiment, "candidates", "noise", "blocks")
        check_left(
            self.experiment, "aggregation.rule", "mean", "clients send gradients with zeros in the place of most"
        )
        self._candidates()
        if self.experiment.rounds <= _JUDGES:
            raise ExperimentError(
                f"rounds = {self.experiment.rounds}: strategy.name = {self.name!r} chooses its mask in the first "
                f"{_JUDGES}: expected more"
            )
        names = [spec.name for spec in table if spec.prunable]
        for block in self._blocks():
            if not any(fnmatchcase(name, block) for name in names):
                raise ExperimentError(
                    f"strategy.options.blocks: {block!r} fits no tensor that is pruned: {', '.join(names[:20])}"
                )

    def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
        """Declare statistics and losses of the candidates, which of them it is, and gradients."""
        of_norms = [s.numel for s in table if s.role == "buffer" and s.name.endswith(("running_mean", "running_var"))]
        candidates = self._candidates()["candidates"]
        shape = (candidates, max(1, sum(of_norms)))
        return (
            StrategyTensor("seen", "up", shape),
            StrategyTensor("statistics", "shared", shape, combine="none"),
            StrategyTensor("losses", "up", (candidates,)),
            StrategyTensor("chosen", "shared", (1,), combine="none"),
            StrategyTensor("gradients", "up", like="prunable"),
        )

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Look, judge, and then train, with gradients when it is time."""
        del client
        if round_ in (_LOOKS, _JUDGES):
            stage, sends = ("look", "seen") if round_ == _LOOKS else ("judge", "losses")
            local = self.local_plan({"stage": stage, **self._candidates()})
            return pb.Plan(train=pb.Plan.Train(steps=1), local=local, sends=[sends])
        plan = pb.Plan(train=self.local_training())
        if adjusts(self.experiment, round_):
            block = self._block(round_)
            options = {"stage": "grow", "share": adjusted_share(self.experiment, round_), "block": block}
            plan.local.CopyFrom(self.local_plan(options))
            plan.sends.append(f"gradients:{block}")
        return plan

    def after_round(self, outcome: RoundOutcome) -> Mapping[str, Tensor]:
        """Return the mean statistics for the next round, or which candidate is the best; and θ_0, bit for bit."""
        if outcome.round > _JUDGES:
            return {}
        before, after = outcome.before, outcome.aggregated
        # What is not finite is as it was: nothing rounds it.
        values = {spec.name: before[spec.name] for spec in outcome.table if spec.role in ("parameter", "buffer")}
        values = {name: value for name, value in values.items() if name in after and all_finite([value])}
        if outcome.round == _LOOKS:
            return values | {"statistics": after["seen"]}
        return values | {"chosen": after["losses"].argmin().float().reshape(1)}

    def optimizes(self, round_: int) -> bool:
        """Leave θ_0 alone until its mask is chosen."""
        return round_ > _JUDGES and super().optimizes(round_)

    def next_masks(self, round_: int, table: TensorTable, aggregated: Mapping[str, Tensor]) -> Masks | None:
        """Prune θ_0 to the chosen candidate, or exchange weights."""
        exchanges = round_ > _JUDGES and adjusts(self.experiment, round_)
        if not exchanges and round_ != _JUDGES:
            return None
        specs = [spec for spec in table if spec.prunable]
        chosen = int(aggregated["chosen"])
        counts = candidate_counts([spec.numel for spec in specs], **self._candidates())[chosen]
        masks: dict[str, Tensor] = {}
        for spec, count in zip(specs, counts, strict=True):
            weight = aggregated[spec.name]
            coming = torch.zeros_like(weight, dtype=torch.bool)
            if exchanges and fnmatchcase(spec.name, self._block(round_)):
                moved = int(adjusted_share(self.experiment, round_) * count)
                (coming,) = largest_among([aggregated[f"gradients:{spec.name}"]], [weight == 0], moved)
            (staying,) = largest_among([weight], [~coming], count - int(coming.sum()))
            masks[spec.name] = coming | staying
        return {name: packedmasks.pack(mask) for name, mask in masks.items()}

    def _candidates(self) -> dict[str, Any]:
        """Return what `candidate_counts` is told."""
        candidates = whole(self.experiment, "candidates", 10, least=2, most=1000)
        spread, seed = number(self.experiment, "noise", 0.5, most=1), self.experiment.seed
        density = self.experiment.strategy.target_density
        return {"density": density, "spread": spread, "candidates": candidates, "seed": seed}

    def _blocks(self) -> list[str]:
        return [block.strip() for block in str(self.experiment.strategy.options.get("blocks", "*")).split(";")]

    def _block(self, round_: int) -> str:
        blocks = self._blocks()
        return blocks[(round_ // self.experiment.strategy.readjust_every - 1) % len(blocks)]
