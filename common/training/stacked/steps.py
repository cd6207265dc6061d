"""What makes a step of a stacked training, once the gradients of all rows are there."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from lotteryfl.common.pruning.pruned import Pruned
from lotteryfl.common.training.averaging import Averaged
from lotteryfl.common.training.optimizers import keeps_zeros, make_optimizer
from lotteryfl.common.training.recipe import Recipe
from lotteryfl.common.training.stacked.models import StackedModels
from lotteryfl.common.training.steps import mask_gradients, pull_back

_TINY = 1e-6
"""Beside a norm that is divided by, as in `torch.nn.utils.clip_grad_norm_`."""


class StackedSteps:
    """The steps of one training of every row: what one row has of it has nothing to do with the others."""

    def __init__(self, rows: StackedModels, recipe: Recipe, pruned: Sequence[Pruned]) -> None:
        """Get ready for the first step.

        Args:
            rows: the models.
            recipe: of the trainings, which have all but the seed in common.
            pruned: the rows' pruned weights.

        Raises:
            ValueError: there is nothing to train.
        """
        settings = recipe.settings
        self.optimizer = make_optimizer(rows, settings, recipe.lr_factor, stacked=True)
        self._trained = [parameter for parameter in rows.parameters() if parameter.requires_grad]
        started = self._trained if recipe.proximal else []
        self._start = [(parameter, parameter.detach().clone()) for parameter in started]
        self._pruned, self._proximal, self._bound = pruned, recipe.proximal, settings.clip_grad_norm
        self._zeroed = [] if keeps_zeros(settings) else pruned
        self._mean = Averaged(rows, settings.ema) if settings.ema else None

    def take(self, lr_factors: Tensor | None) -> None:
        """Step, out of the gradients that the rows have.

        Args:
            lr_factors: of each row's learning rate; None: 1.
        """
        pull_back(self._start, self._proximal)
        mask_gradients(self._pruned)
        if self._bound:
            _clip(self._trained, self._bound)
        before = [] if lr_factors is None else [parameter.detach().clone() for parameter in self._trained]
        self.optimizer.step()
        if lr_factors is not None:
            _shorten(self._trained, before, lr_factors)
        for each in self._zeroed:
            each.settle()
        if self._mean is not None:
            self._mean.take()

    def averaged(self) -> AbstractContextManager[None]:
        """Have the rows for a while as a training that ends here would return them."""
        return nullcontext() if self._mean is None else self._mean.shown()


def _clip(parameters: Sequence[Tensor], bound: float) -> None:
    """Scale each row's gradient down to an L2 norm."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    factors = (bound / (norms + _TINY)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(_beside(factors, gradient))


@torch.no_grad()
def _shorten(parameters: Sequence[Tensor], before: Sequence[Tensor], factors: Tensor) -> None:
    """Have each row go only part of its step: those of sgd, adam and adamw are the learning rate times something."""
    for parameter, start in zip(parameters, before, strict=True):
        parameter.copy_(start.lerp(parameter, _beside(factors, parameter)))


def _beside(factors: Tensor, tensor: Tensor) -> Tensor:
    return factors.to(tensor.dtype).view(-1, *(1 for _ in tensor.shape[1:]))
