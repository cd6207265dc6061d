"""What makes a step of a training, once its gradients are there."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LambdaLR

from lotteryfl.common.pruning.modeltensors import model_tensors
from lotteryfl.common.pruning.pruned import Pruned
from lotteryfl.common.training.averaging import Averaged
from lotteryfl.common.training.hooks import NONE, Hooks
from lotteryfl.common.training.optimizers import check_optimizer, keeps_zeros, make_optimizer
from lotteryfl.common.training.precision import check_compiler, compiled
from lotteryfl.common.training.recipe import Recipe, TrainingSettings


def check_recipe(settings: TrainingSettings, model: nn.Module, device: torch.device | None = None) -> None:
    """Check, before anybody trains, that the model can be trained as the settings say.

    Args:
        settings: how.
        model: the task's.
        device: where it will be trained; None: not here.

    Raises:
        ExperimentError: it cannot.
    """
    check_optimizer(settings, model)
    if device is not None:
        check_compiler(settings, device)


class Steps:
    """The steps of one training: fresh optimizer, schedule and mean, and what is pruned stays exactly 0."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        pruned: Sequence[Pruned],
        steps_of_epoch: int,
        hooks: Hooks = NONE,
    ) -> None:
        """Get ready for the first step.

        Args:
            model: on its device, its pruned weights plain.
            recipe: of the training.
            pruned: the pruned weights.
            steps_of_epoch: how many steps an epoch has.
            hooks: what else is trained, and what the proximal term pulls towards.

        Raises:
            ValueError: the model has nothing to train, or the optimizer cannot be made.
        """
        settings = recipe.settings
        self.model = compiled(model, settings)
        """From inputs to outputs."""
        self.optimizer = make_optimizer(model, settings, recipe.lr_factor, beside=hooks.beside)
        self.pruned = pruned
        own = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._trained = [*own, *hooks.beside]
        self._start: list[tuple[Tensor, Tensor]] = []
        if recipe.proximal and hooks.towards is not None:
            self._start = _paired(model, hooks.towards)
        elif recipe.proximal:
            self._start = [(parameter, parameter.detach().clone()) for parameter in own]
        self._proximal, self._bound = recipe.proximal, settings.clip_grad_norm
        self._zeroed = [] if keeps_zeros(settings) else pruned
        self._scheduler = _scheduler(self.optimizer, recipe, steps_of_epoch)
        self._mean = Averaged(model, settings.ema) if settings.ema else None

    def take(self) -> None:
        """Step, out of the gradients that the parameters have."""
        pull_back(self._start, self._proximal)
        mask_gradients(self.pruned)
        if self._bound:
            clip_grad_norm_(self._trained, self._bound)
        self.optimizer.step()
        for each in self._zeroed:
            each.settle()
        if self._scheduler is not None:
            self._scheduler.step()
        if self._mean is not None:
            self._mean.take()

    def averaged(self) -> AbstractContextManager[None]:
        """Have the model for a while as the training would return it."""
        return nullcontext() if self._mean is None else self._mean.shown()

    def end(self) -> None:
        """Leave the model as the training returns it, without gradients."""
        if self._mean is not None:
            self._mean.swap()
        self.optimizer.zero_grad()


def pull_back(start: Sequence[tuple[Tensor, Tensor]], proximal: float) -> None:
    """Add the gradient of the proximal term."""
    if start:
        parameters, origins = zip(*((p, origin) for p, origin in start if p.grad is not None), strict=True)
        away = torch._foreach_sub([p.detach() for p in parameters], origins)
        torch._foreach_add_([p.grad for p in parameters], away, alpha=proximal)


def _paired(model: nn.Module, towards: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return what is trained of a model with what has its name.

    Raises:
        ValueError: nothing has it, or another shape.
    """
    pairs = []
    for item in model_tensors(model):
        if not item.tensor.requires_grad:
            continue
        origin = towards.get(item.name)
        if origin is None or origin.shape != item.tensor.shape:
            found = "nothing" if origin is None else f"shape {tuple(origin.shape)}"
            raise ValueError(
                f"towards: {item.name!r} is {found}, expected a tensor of shape {tuple(item.tensor.shape)}"
            )
        pairs.append((item.tensor, origin.detach().to(item.tensor)))
    return pairs


def mask_gradients(pruned: Sequence[Pruned]) -> None:
    """Take the gradients of what is pruned away."""
    with_gradient = [(each.tensor.grad, each.mask) for each in pruned if each.tensor.grad is not None]
    if with_gradient:
        gradients, masks = zip(*with_gradient, strict=True)
        torch._foreach_mul_(gradients, masks)


def _scheduler(optimizer: torch.optim.Optimizer, recipe: Recipe, steps_of_epoch: int) -> LambdaLR | None:
    """Return what takes the learning rate through a round's steps, from where the training begins."""
    schedule = recipe.settings.local_schedule
    if schedule.is_constant:
        return None
    unit = 1 if recipe.steps else steps_of_epoch
    done, left = recipe.before * unit, recipe.after * unit
    length = done + recipe.total_steps(steps_of_epoch) + left
    return LambdaLR(optimizer, lambda step: schedule.factor(done + step, length))
