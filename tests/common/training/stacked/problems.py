"""Clients of unequal size with pruned models, trained one by one or stacked."""

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lotteryfl.common.pruning.pruned import Pruned
from lotteryfl.common.training.augmentation import OwnAugment
from lotteryfl.common.training.loop import OnEpoch, OnStep, TrainResult, train_by_recipe
from lotteryfl.common.training.objective import Objective
from lotteryfl.common.training.recipe import Recipe, TrainingSettings
from lotteryfl.common.training.stacked.course import Training
from lotteryfl.common.training.stacked.courses import Failure
from lotteryfl.common.training.stacked.train import train_stacked

SIZES = (17, 8, 30, 3)
"""Examples of each client: ragged last batches, one full one, and less than one."""

CLASSES = 3


@dataclass
class Trained:
    """What a training of all has come to."""

    models: list[nn.Module]
    results: Sequence[TrainResult | Failure | None]


@dataclass
class Problem:
    """Some clients, each with a model, half of it pruned, and data of its own."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    settings: TrainingSettings
    objective: Objective | None = None
    augment: OwnAugment | None = None
    plan: dict[str, Any] = field(default_factory=dict)
    sizes: Sequence[int] = SIZES

    def __post_init__(self) -> None:
        random = torch.Generator().manual_seed(len(self.sizes))
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.models = [self.make() for _ in self.sizes]
        self.data = [
            (
                torch.randn(size, *self.shape, generator=random),
                torch.randint(CLASSES, (size,), generator=random),
            )
            for size in self.sizes
        ]
        self.masks = [
            [torch.rand(weight.shape, generator=random).gt(0.5).float() for weight in matrices(model)]
            for model in self.models
        ]
        self.recipes = [
            Recipe(self.settings, **{"epochs": 3, "seed": 7 * number, **self.plan}) for number in range(len(self.sizes))
        ]

    def pruned_models(self) -> tuple[list[nn.Module], list[list[Pruned]]]:
        """Return copies of the models, and what is pruned of each."""
        models = copy.deepcopy(self.models)
        pruned = [
            [Pruned(weight, mask) for weight, mask in zip(matrices(model), masks, strict=True)]
            for model, masks in zip(models, self.masks, strict=True)
        ]
        for each in itertools.chain(*pruned):
            each.mask  # noqa: B018 - made
            each.settle()
        return models, pruned

    def one_by_one(self, on_epoch: Callable[[int, nn.Module], OnEpoch] | None = None) -> Trained:
        """Train each by itself."""
        models, pruned = self.pruned_models()
        results = [
            train_by_recipe(
                model,
                data,
                recipe,
                objective=self.objective,
                augment=self.augment,
                pruned=own,
                on_epoch=on_epoch and on_epoch(number, model),
            )
            for number, (model, data, recipe, own) in enumerate(
                zip(models, self.data, self.recipes, pruned, strict=True)
            )
        ]
        return Trained(models, results)

    def stacked(
        self,
        present: Sequence[int] | None = None,
        on_epoch: Callable[[int, nn.Module], OnEpoch] | None = None,
        on_step: OnStep | None = None,
    ) -> Trained:
        """Train them stacked; None: all of them."""
        models, pruned = self.pruned_models()
        trainings = [
            Training(model, data, recipe, own, on_epoch and on_epoch(number, model))
            if present is None or number in present
            else None
            for number, (model, data, recipe, own) in enumerate(
                zip(models, self.data, self.recipes, pruned, strict=True)
            )
        ]
        results = train_stacked(self.make(), trainings, objective=self.objective, augment=self.augment, on_step=on_step)
        return Trained(models, results)


def matrices(model: nn.Module) -> list[Tensor]:
    """Return the weights that are pruned."""
    return [parameter for parameter in model.parameters() if parameter.dim() > 1]
