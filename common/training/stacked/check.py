"""What cannot be stacked, said before anybody trains."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

from lotteryfl.common.errors import ExperimentError, OutputError
from lotteryfl.common.owncode.usercode import first_line
from lotteryfl.common.training.augmentation import OwnAugment
from lotteryfl.common.training.loop import train_by_recipe
from lotteryfl.common.training.objective import Objective
from lotteryfl.common.training.recipe import Recipe, TrainingSettings
from lotteryfl.common.training.stacked.course import Training
from lotteryfl.common.training.stacked.train import train_stacked
from lotteryfl.common.training.structure import Rows, mapped

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


@dataclass(frozen=True)
class Trial:
    """A step on some of a client's data, by which is found out whether a model trains as many; it stays as it is."""

    model: nn.Module
    """The task's."""
    data: Any
    """The client's, of training."""
    settings: TrainingSettings
    """How it will be trained."""
    device: torch.device
    """Where."""
    objective: Objective | None = None
    """What is learned; None: classification."""
    augment: OwnAugment | None = None
    """The task's."""

    def alone(self) -> None:
        """Take the step by itself: what that raises is not for stacking."""
        model, data = copy.deepcopy(self.model), _first(self.data, _MOST)
        train_by_recipe(model, data, self._recipe, device=self.device, objective=self.objective, augment=self.augment)

    def stacked(self) -> None:
        """Take the step as one of two, of which one has a single example.

        Raises:
            ExperimentError: the model does not train so, or changes what it keeps beside its weights.
        """
        name = type(self.model).__name__
        trainings = [Training(copy.deepcopy(self.model), _first(self.data, most), self._recipe) for most in (_MOST, 1)]
        try:
            found = train_stacked(
                copy.deepcopy(self.model),
                trainings,
                device=self.device,
                objective=self.objective,
                augment=self.augment,
            )
            for failure in found:
                if isinstance(failure, OutputError):  # what else is a row's own comes of so few examples
                    raise failure
        except OutputError as error:
            raise ExperimentError(str(error)) from error
        except Exception as error:  # whatever torch's vmap makes of a model and a loss of other people's
            raise ExperimentError(
                f"engine.stacked: {name} cannot be trained as many models at once: "
                f"{type(error).__name__}: {first_line(error)}; expected 0"
            ) from error
        buffers = dict(trainings[0].model.named_buffers())
        for buffer_name, buffer in self.model.named_buffers():
            if not torch.equal(buffer, buffers[buffer_name].to(buffer.device)):
                raise ExperimentError(
                    f"engine.stacked: {name} changes {buffer_name!r} while it is trained, also by examples that "
                    "only fill a batch up: expected a model that changes its weights alone, or 0"
                )

    @property
    def _recipe(self) -> Recipe:
        return Recipe(self.settings, 1, steps=1)


def _first(data: Any, most: int) -> Any:
    """Return some of what is in memory; what is not is refused by who is given it."""
    if type(data) is TensorDataset:
        return TensorDataset(*(tensor[:most] for tensor in data.tensors))
    return Rows(mapped(lambda tensor: tensor[:most], data.content)) if type(data) is Rows else data
