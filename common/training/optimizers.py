"""torch's optimizers by name, with their options checked against their signatures."""

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.owncode.usercode import first_line
from lotteryfl.common.training.recipe import SGD, TrainingSettings

_SHORT = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}

_UNFIT = {
    "LBFGS": "its steps evaluate the loss again by a closure, and a step here has one batch",
    "SparseAdam": "it is for sparse gradients, and those here are dense",
}

_NOT_OPTIONS = ("params", "lr", "weight_decay", "differentiable")
"""Parameters of optimizers that are no options of a training's."""

_NOT_SGDS = (*_NOT_OPTIONS, "momentum", "nesterov")


def make_optimizer(
    model: nn.Module,
    settings: TrainingSettings,
    lr_factor: float = 1.0,
    *,
    stacked: bool = False,
    beside: Sequence[Tensor] = (),
) -> Optimizer:
    """Return a fresh optimizer of what is to be trained.

    Args:
        model: of which the parameters that require a gradient are trained.
        settings: name and what it takes.
        lr_factor: of the learning rate.
        stacked: the first dimension of its parameters is that of several models.
        beside: what is trained beside the model.

    Raises:
        ValueError: there is nothing, no optimizer of this name, or it does not take what it is given.
    """
    parameters = [*(parameter for parameter in model.parameters() if parameter.requires_grad), *beside]
    if not parameters:
        raise ValueError(f"nothing to train: {type(model).__name__} has no parameter that requires a gradient")
    kind = _kinds().get(settings.optimizer)
    if kind is None:
        raise ValueError(
            f"optimizer={settings.optimizer!r}: expected 'sgd', 'adam' or 'adamw', or a class of torch.optim by name"
        )
    options: dict[str, Any] = dict(settings.optimizer_options)
    if settings.optimizer in SGD:
        options |= {"momentum": settings.momentum, "nesterov": settings.nesterov}
    if "weight_decay" in _taken(settings.optimizer):
        options["weight_decay"] = settings.weight_decay
    groups = parameters if settings.weight_decay_of == "everything" else _groups(parameters, 2 + stacked)
    return kind(groups, lr=settings.lr * lr_factor, **options)


def keeps_zeros(settings: TrainingSettings) -> bool:
    """Tell whether weights of 0 with gradients of 0 stay 0: not where a step mixes weights, or divides by nothing."""
    return settings.optimizer in _SHORT and not settings.optimizer_options


def check_optimizer(settings: TrainingSettings, model: nn.Module) -> None:
    """Check that the optimizer is there and takes its options and the model's parameters, by steps of its own.

    Raises:
        ExperimentError: it is not, or does not.
    """
    name, kinds = settings.optimizer, _kinds()
    if name in _UNFIT:
        raise ExperimentError(f"training.optimizer = {name!r}: {_UNFIT[name]}; expected one of {', '.join(kinds)}")
    if name not in kinds:
        raise ExperimentError(f"training.optimizer = {name!r}: expected one of {', '.join(kinds)}")
    taken = _taken(name)
    options = [option for option in taken if option not in (_NOT_SGDS if name in SGD else _NOT_OPTIONS)]
    for option, value in settings.optimizer_options.items():
        if option not in options:
            raise ExperimentError(f"training.optimizer_options.{option} = {value!r}: {name} takes {', '.join(options)}")
    if settings.weight_decay and "weight_decay" not in taken:
        raise ExperimentError(f"training.weight_decay = {settings.weight_decay:g}: {name} has none: expected 0")
    try:
        _take_steps(settings)
        if any(parameter.requires_grad for parameter in model.parameters()):
            make_optimizer(model, settings)
    except Exception as error:  # whatever an optimizer makes of options that it was not made for
        raise ExperimentError(
            f"training.optimizer = {name!r}, with training.optimizer_options = {settings.optimizer_options}: "
            f"{first_line(error) or type(error).__name__}"
        ) from error


@cache
def _taken(name: str) -> tuple[str, ...]:
    """Return the parameters of an optimizer."""
    return tuple(inspect.signature(_kinds()[name]).parameters)


@cache
def _kinds() -> dict[str, Callable[..., Optimizer]]:
    """Return the optimizers by their names here: those with a short one, then torch's by its own."""
    found = {name: getattr(torch.optim, name) for name in dir(torch.optim)}
    torchs = {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, Optimizer)}
    kinds: dict[str, Callable[..., Optimizer]] = dict(_SHORT)
    kinds.update((name, kind) for name, kind in torchs.items() if kind is not Optimizer and name not in _UNFIT)
    return kinds


def _groups(parameters: Sequence[Tensor], least: int) -> list[dict[str, Any]]:
    matrices = [parameter for parameter in parameters if parameter.dim() >= least]
    spared = [parameter for parameter in parameters if parameter.dim() < least]
    return [group for group in ({"params": matrices}, {"params": spared, "weight_decay": 0.0}) if group["params"]]


def _take_steps(settings: TrainingSettings) -> None:
    """Take the first and the second, which is where some options are first looked at."""
    weight = nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.ones(2, 2)
    optimizer = make_optimizer(nn.ParameterList([weight]), settings)
    for _ in range(2):
        optimizer.step()
    if not bool(weight.isfinite().all()):
        raise ValueError("a step from finite weights is not finite")
