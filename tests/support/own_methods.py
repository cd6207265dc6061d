"""Methods of one's own with both halves in one file, as an outsider would write them."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lotteryfl import ClientState, LocalAlgorithm, Phase, Strategy
from lotteryfl.protos import lotteryfl_pb2 as pb


class Near(Strategy):
    """FedProx, by a loss of its own."""

    name = local = "near"

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        return pb.Plan(train=self.local_training(), local=self.local_plan({"mu": 0.5}))


class NearTheStart(LocalAlgorithm):
    name = "near"

    def begin(self) -> None:
        self._start = {name: each.clone() for name, each in self.work.named_parameters().items()}

    def loss(self, model: Any, batch: Any, loss_of: Any) -> Tensor:
        pairs = self.work.named_parameters().items()
        away = sum((each - self._start[name]).square().sum() for name, each in pairs)
        loss: Tensor = loss_of(model, batch) + self.work.options["mu"] / 2 * away
        return loss


class Mixed(Strategy):
    """All hooks at once, under masks: results depend on every draw that there is."""

    name = local = "mixed"
    prunes = True

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        settings = self.experiment.strategy
        prune = pb.Plan.Prune(rate=settings.prune_rate, target_density=settings.target_density)
        train = self.local_training()
        train.lr = self.experiment.training.lr / round_
        return pb.Plan(train=train, prune=prune, rewind=pb.Plan.INITIAL, local=self.local_plan())

    def final_plan(self, client: ClientState) -> pb.Plan:
        return pb.Plan(train=self.local_training(), local=self.local_plan({"last": True}))


class MixedHooks(LocalAlgorithm):
    name = "mixed"

    def phases(self) -> Iterable[Phase]:
        return (Phase(trains=("2.*",)), Phase(trains=("0.*",)))

    def before_step(self, step: int) -> None:
        for each in self.work.named_parameters().values():
            if each.grad is not None:
                each.grad.add_(torch.randn(each.shape, generator=self.work.generator), alpha=0.01)

    def after_step(self, step: int) -> None:
        self.work.named_parameters()["2.bias"].add_(torch.randn(()), alpha=0.001)

    def end(self) -> None:
        self._own = self.work.copy()
        self.work.train(self._own, steps=2, proximal=0.1, towards=self.work.initial)

    def personalised(self) -> nn.Module:
        return self._own
