"""One row's training among those that are stacked: what it does when, and what it has come to."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from lotteryfl.common.pruning.pruned import Pruned
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.seeding import seeded
from lotteryfl.common.training.augmentation import OwnAugment
from lotteryfl.common.training.examples import Batch
from lotteryfl.common.training.given import Data
from lotteryfl.common.training.loop import OnEpoch, TrainResult, require_gradients
from lotteryfl.common.training.objective import Objective
from lotteryfl.common.training.recipe import Recipe
from lotteryfl.common.training.stacked.batches import Order


@dataclass(frozen=True, eq=False)
class Training:
    """What `train_by_recipe` is told of one training, as far as it is one row's own."""

    model: nn.Module
    """Trained in place."""
    data: Data
    """Tensors in memory, see `common.training.given.Data`."""
    recipe: Recipe
    """All but the seed, and what the schedule over steps goes by, in common with the other rows'."""
    pruned: Sequence[Pruned] | None = None
    """The model's pruned weights, if it is plain; None: it may be in the pruned state."""
    on_epoch: OnEpoch | None = None
    """Called after every epoch; the weights are plain then."""


class Course:
    """A training's steps, one after the other, as it would take them alone."""

    def __init__(
        self, training: Training, objective: Objective, augment: OwnAugment | None, device: torch.device
    ) -> None:
        """Begin.

        Args:
            training: which.
            objective: what is learned.
            augment: the task's, done to every batch.
            device: where to train.

        Raises:
            ValueError: it has no epoch, nothing to train, or, as an `OutputError`, data that cannot be stacked.
        """
        self.recipe = training.recipe
        self.model = training.model.to(device)
        require_gradients(self.model)
        if self.recipe.epochs < 1 and not self.recipe.steps:
            raise ValueError(f"epochs={self.recipe.epochs}: expected at least 1")
        self.order = Order(training.data, self.recipe, objective, augment, device)
        self.total = self.recipe.total_steps(self.order.steps_of_epoch)
        """How many steps it takes."""
        self.generator = torch.Generator(device).manual_seed(derive_seed(self.recipe.seed, "dropout"))
        """Of its dropout."""
        self.epoch = 0
        """Of the last step that it took, from 1."""
        self._device = device
        self._draws = augment is not None
        self._on_epoch = training.on_epoch
        self._steps = self.order.steps()
        self._sizes: list[int] = []
        self._epochs: list[int] = []

    def next(self) -> list[Batch]:
        """Return the batches of the next step; none where it has no more."""
        self._is_stepping = len(self._sizes) < self.total
        if not self._is_stepping:
            return []
        with self._unasked():
            self.epoch, batches = next(self._steps)
        self._epochs.append(self.epoch)
        self._sizes.append(sum(batch.size for batch in batches))
        return batches

    def _unasked(self) -> AbstractContextManager[None]:
        """Let what a task's own augmentation draws unasked be the row's, whatever is between its steps."""
        if not self._draws:
            return nullcontext()
        return seeded(derive_seed(self.recipe.seed, "unasked", len(self._sizes)), self._device)

    @property
    def wants_model(self) -> bool:
        """Whether the model is to be as it is after this step: it was the last, or somebody looks."""
        done = len(self._sizes)
        ends_epoch = self._on_epoch is not None and done % self.order.steps_of_epoch == 0
        return self._is_stepping and (done == self.total or ends_epoch)

    def show(self) -> None:
        """Let who looks look, its model being as it is now."""
        if self._on_epoch is not None:
            self._on_epoch(self.epoch)

    def lr_factor(self, step: int) -> float:
        """Return the factor of the learning rate in a step, from 0; 0 where it has no more."""
        if step >= self.total:
            return 0.0
        unit = 1 if self.recipe.steps else self.order.steps_of_epoch
        done, left = self.recipe.before * unit, self.recipe.after * unit
        return self.recipe.settings.local_schedule.factor(done + step, done + self.total + left)

    def result(self, losses: Sequence[float]) -> TrainResult:
        """Return what it did, by the losses of all steps."""
        last = [
            (loss, size)
            for loss, size, epoch in zip(losses, self._sizes, self._epochs, strict=False)
            if epoch == self.epoch
        ]
        loss = sum(loss * size for loss, size in last) / sum(size for _, size in last)
        return TrainResult(loss, len(self.order.examples), self.total)
