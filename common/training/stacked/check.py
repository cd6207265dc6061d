"""What cannot be stacked, said before anybody trains."""

import copy
from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

from lotteryfl.common.errors import ExperimentError, OutputError
from lotteryfl.common.training.augmentation import OwnAugment
from lotteryfl.common.training.loop import train_by_recipe
from lotteryfl.common.training.objective import Objective
from lotteryfl.common.training.recipe import Recipe, TrainingSettings
from lotteryfl.common.training.stacked.course import Training
from lotteryfl.common.training.stacked.train import train_stacked
from lotteryfl.common.training.structure import Rows, mapped
from lotteryfl.common.usercode import first_line

_MEASURING = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)

_MOST = 2
"""Examples of a client's that are tried."""


def check_stackable(model: nn.Module, objective: Objective | None) -> None:
    """Check what can be seen of a model and an objective without data.

    Raises:
        ExperimentError: they cannot be stacked.
    """
    for name, module in model.named_modules():
        if isinstance(module, _MEASURING) and (module.track_running_stats or isinstance(module, _MEASURING[0])):
            raise ExperimentError(
                f"engine.stacked: the model's {name!r} is a {type(module).__name__}, which measures whole batches, and "
                "stacked ones are filled up where a client has fewer examples: expected a group norm, or 0"
            )
    if objective is not None and not objective.mean_over_examples:
        raise ExperimentError(
            f"engine.stacked: needs a loss that is a mean over examples, and {type(objective).__name__} does not say "
            "that its is: set mean_over_examples = True where it is one, or expected 0"
        )


def try_alone(
    model: nn.Module,
    data: Any,
    settings: TrainingSettings,
    *,
    device: torch.device,
    objective: Objective | None,
    augment: OwnAugment | None,
) -> None:
    """Take a step on some of a client's data by itself, as for `try_stacked`: what that raises is not for stacking."""
    recipe = Recipe(settings, 1, steps=1)
    model = copy.deepcopy(model)
    train_by_recipe(model, _first(data, _MOST), recipe, device=device, objective=objective, augment=augment)


def try_stacked(
    model: nn.Module,
    data: Any,
    settings: TrainingSettings,
    *,
    device: torch.device,
    objective: Objective | None,
    augment: OwnAugment | None,
) -> None:
    """Find out by a step on some of a client's data, of which one goes by itself, whether a model trains as many.

    Args:
        model: of the task's; it stays as it is.
        data: the client's, of training.
        settings: how it will be trained.
        device: where.
        objective: what is learned; None: classification.
        augment: the task's.

    Raises:
        ExperimentError: it does not, or it changes what it keeps beside its weights.
    """
    recipe = Recipe(settings, 1, steps=1)
    trainings = [Training(copy.deepcopy(model), _first(data, most), recipe) for most in (_MOST, 1)]
    try:
        found = train_stacked(copy.deepcopy(model), trainings, device=device, objective=objective, augment=augment)
        for failure in found:
            if isinstance(failure, OutputError):  # what else is a row's own comes of so few examples
                raise failure
    except OutputError as error:
        raise ExperimentError(str(error)) from error
    except Exception as error:  # whatever torch's vmap makes of a model and a loss of other people's
        raise ExperimentError(
            f"engine.stacked: {type(model).__name__} cannot be trained as many models at once: "
            f"{type(error).__name__}: {first_line(error)}; expected 0"
        ) from error
    buffers = dict(trainings[0].model.named_buffers())
    for name, buffer in model.named_buffers():
        if not torch.equal(buffer, buffers[name].to(buffer.device)):
            raise ExperimentError(
                f"engine.stacked: {type(model).__name__} changes {name!r} while it is trained, also by examples that "
                "only fill a batch up: expected a model that changes its weights alone, or 0"
            )


def _first(data: Any, most: int) -> Any:
    """Return some of what is in memory; what is not is refused by who is given it."""
    if type(data) is TensorDataset:
        return TensorDataset(*(tensor[:most] for tensor in data.tensors))
    return Rows(mapped(lambda tensor: tensor[:most], data.content)) if type(data) is Rows else data
