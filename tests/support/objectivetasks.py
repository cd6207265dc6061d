"""A small task for every ready objective."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from lotteryfl.common.tasks import ClientData
from lotteryfl.common.training.objective import Objective, score_of
from lotteryfl.common.training.objectives import (
    Binary,
    Classification,
    Dense,
    HuggingFace,
    LanguageModelling,
    MultiLabel,
    Regression,
)
from lotteryfl.common.training.structure import Rows
from tests.support.bench import TinyTask

SIZES = [9, 6, 7]
WORDS = 11
IGNORED = -100


def mlp(outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, outputs))


def segmenter() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))


class Tagger(nn.Module):
    """From tokens (N, T) to logits (N, T, words)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 6)
        self.head = nn.Linear(6, WORDS)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.cumsum(self.embed(tokens), dim=1))
        return logits


class Named(nn.Module):
    """Takes a batch's parts by their names, and has its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(3)

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(features)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def inputs(client: int) -> Tensor:
    return torch.randn(sum(SIZES), 6, generator=torch.Generator().manual_seed(client))


def classes(client: int) -> tuple[Tensor, Tensor]:
    x = inputs(client)
    return x, x[:, :3].argmax(dim=1)


def images(client: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(sum(SIZES), 1, 4, 4, generator=torch.Generator().manual_seed(client))
    labels = (x[:, 0] > 0).long() + (x[:, 0] > 1).long()
    labels[:, 0, 0] = IGNORED
    return x, labels


def texts(client: int) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(WORDS, (sum(SIZES), 6), generator=torch.Generator().manual_seed(client))
    labels = tokens.roll(-1, dims=1)
    labels[:, -1] = IGNORED
    return tokens, labels


@dataclass(frozen=True)
class Problem:
    objective: Objective
    model: Callable[[], nn.Module]
    data: Callable[[int], tuple[Tensor, Tensor]]
    wrapped: Callable[[Tensor, Tensor], Any] = TensorDataset


PROBLEMS: Mapping[str, Problem] = {
    "classification": Problem(Classification(label_smoothing=0.1, class_weights=[1, 2, 3]), lambda: mlp(3), classes),
    "binary": Problem(Binary(positive_weight=2.0), lambda: mlp(1), lambda k: (inputs(k), (inputs(k)[:, 0] > 0).long())),
    "multi-label": Problem(MultiLabel(3), lambda: mlp(3), lambda k: (inputs(k), (inputs(k)[:, :3] > 0).long())),
    "regression": Problem(Regression(), lambda: mlp(1), lambda k: (inputs(k), inputs(k).sum(dim=1))),
    "huber": Problem(Regression("huber"), lambda: mlp(2), lambda k: (inputs(k), inputs(k)[:, :2] * 3)),
    "dense": Problem(Dense(3), segmenter, images),
    "language modelling": Problem(LanguageModelling(), Tagger, texts),
    "hugging face": Problem(HuggingFace(), Named, classes, lambda x, y: Rows({"features": x, "labels": y})),
}


class ObjectiveTask(TinyTask):
    """One of the problems as a task."""

    def __init__(self, name: str, objective: Objective | None = None) -> None:
        self._problem = PROBLEMS[name]
        super().__init__(self._problem.model)
        self.objective = objective or self._problem.objective
        self.score = score_of(self.objective)

    def client_data(self, client: int) -> ClientData:
        parts: list[Dataset[Any]] = [
            self._problem.wrapped(*rows)
            for rows in zip(*(torch.split(each, SIZES) for each in self._problem.data(client)), strict=True)
        ]
        return ClientData(*parts)
