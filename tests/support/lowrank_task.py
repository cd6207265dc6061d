"""A task of low-rank layers on a backbone that does not train, written by hand as LoRA has them."""

import torch
from torch import Tensor, nn

from lotteryfl import Experiment

frozen = ("*.running_*", "*.num_batches_tracked")


class LowRank(nn.Module):
    """A frozen linear layer, and a product of two small matrices that trains beside it."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.base(inputs) + self.up(self.down(inputs))
        return output


class Backbone(nn.Module):
    """A pretrained part: its norm is frozen with its statistics, also while the rest trains."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = LowRank(nn.Linear(6, 256), 2)
        self.norm = nn.BatchNorm1d(256).requires_grad_(False)
        self.deep = LowRank(nn.Linear(256, 256), 2)

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.deep(self.norm(self.hidden(inputs).relu())).relu()
        return output


def model() -> nn.Module:
    return nn.Sequential(Backbone(), nn.Linear(256, 3))


def client(k: int, experiment: Experiment) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1000 * experiment.seed + k)
    inputs = torch.randn(40, 6, generator=generator)
    labels = inputs.roll(k, dims=1)[:, :3].argmax(dim=1)
    return list(zip(inputs.split((24, 8, 8)), labels.split((24, 8, 8)), strict=True))
