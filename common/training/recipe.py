"""How a model is trained: the keys of an experiment's `training` section, and what is particular to one training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.section import Count, Section
from lotteryfl.common.text import quoted
from lotteryfl.common.training.schedules import Schedule

Short = Literal["stays", "goes", "joins"]
"""What becomes of a pass's last batch where it has fewer examples than the others, and is not the only one: it is one
as the others, it is left out, or, where it has a single example, that joins the batch before it."""

OptimizerName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]{0,63}$")]
"""Which of torch's optimizers takes the steps: sgd, adam, adamw, or a name of `torch.optim`."""

Option = bool | int | float | str | tuple[bool | int | float | str, ...]
"""A value of an optimizer's option."""

AugmentationName = Literal["crop", "flip", "zoom", "erase", "brightness", "contrast"]
"""What `common.training.augmentation` does to images."""

STACKABLE = ("sgd", "adam", "adamw", "SGD", "Adam", "AdamW")
"""Optimizers whose steps take every element by itself, along the learning rate."""

SGD = ("sgd", "SGD")
"""The names of the optimizer that `momentum` and `nesterov` are for."""


class TrainingSettings(Section):
    """Local training on a client."""

    epochs: Count = 5
    """Local epochs in a round."""
    batch_size: Count = 8
    """Training examples of a batch."""
    drop_last: bool = False
    """An epoch leaves out the last batch where that is a short one, and not the only one."""
    steps: int = Field(0, ge=0, le=2**31 - 1)
    """Optimizer steps in a round, in place of epochs; 0: as many as the epochs have."""
    accumulate: Count = 1
    """Batches whose examples together make one optimizer step."""
    optimizer: OptimizerName = "sgd"
    """sgd, adam, adamw, or a class of `torch.optim` by its name."""
    optimizer_options: dict[str, Option] = Field({})
    """What it takes beside the keys here, by its parameters' names in `torch.optim`."""
    lr: float = Field(0.1, gt=0)
    """Learning rate, before schedules."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """For sgd; the others keep torch's defaults."""
    nesterov: bool = False
    """For sgd."""
    weight_decay: float = Field(0.0, ge=0)
    """As torch's optimizers take it."""
    weight_decay_of: Literal["everything", "matrices"] = "everything"
    """"matrices": norms and biases, all that has less than two dimensions, are spared."""
    clip_grad_norm: float = Field(0.0, ge=0)
    """Bound of the L2 norm of a step's gradient; 0: none."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that goes to all classes alike; of training alone."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the mean of the weights over the steps that a training returns; 0: it returns the last."""
    augment: tuple[AugmentationName, ...] = ()
    """What is done to every training batch of images, in order."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """In what forward and backward compute, by autocast; weights and steps stay in theirs."""
    compile: bool = False
    """Train by `torch.compile`."""
    channels_last: bool = False
    """Keep convolutions' weights in that memory format while training."""
    threads: int = Field(1, ge=1, le=1024)
    """torch threads of a worker: part of the experiment, because it changes the order of sums."""
    loader_workers: int = Field(0, ge=0, le=64)
    """Processes that read examples of data sets that are not in memory: part of the experiment, because each draws by
    itself what a data set draws unasked."""
    schedule: Schedule = Schedule()
    """Of the learning rate over rounds; the one beyond, in which every client personalises, has that of the last."""
    local_schedule: Schedule = Schedule()
    """Of the learning rate over the steps of a round."""

    @field_validator("optimizer_options", mode="before")
    @classmethod
    def _readable(cls, options: Any) -> Any:
        for name, value in options.items() if isinstance(options, dict) else ():
            if not all(map(_is_plain, value if isinstance(value, list | tuple) else [value])):
                raise ValueError(
                    f"training.optimizer_options.{name} = {quoted(value)}: "
                    "expected true or false, text, a finite number, or a list of them"
                )
        return options

    @model_validator(mode="after")
    def _consistent(self) -> "TrainingSettings":
        if self.nesterov and not (self.optimizer in SGD and self.momentum):
            raise ValueError(
                f"training.nesterov = True: must be False with training.optimizer = {self.optimizer!r} and "
                f"training.momentum = {self.momentum:g}: it is a momentum of sgd's"
            )
        own = {"lr", "weight_decay", *(("momentum", "nesterov") if self.optimizer in SGD else ())}
        for name in sorted(self.optimizer_options.keys() & own):
            raise ValueError(
                f"training.optimizer_options.{name} = {self.optimizer_options[name]!r}: expected in training.{name}"
            )
        return self

    def batches_of(self, examples: int) -> int:
        """Return how many batches an epoch over so many examples has."""
        return max(examples // self.batch_size, 1) if self.drop_last else ceil(examples / self.batch_size)

    def short(self, *, has_batch_norm: bool) -> Short:
        """Return what becomes of an epoch's last batch: batch norm finds no variance in a single example."""
        if self.drop_last:
            return "goes"
        return "joins" if has_batch_norm else "stays"

    @property
    def depends_on_rounds(self) -> bool:
        """Whether what a round does depends on how many rounds the run has."""
        return self.schedule.depends_on_length

    def lr_factor(self, round_: int, rounds: int) -> float:
        """Return the factor of the learning rate in a round.

        Args:
            round_: from 1.
            rounds: of the run; in the one beyond, every client personalises.
        """
        return self.schedule.factor(max(min(round_, rounds), 1) - 1, rounds)

    def check_rounds(self, rounds: int) -> None:
        """Check that the schedule goes with the number of rounds.

        Raises:
            ValueError: it does not begin before they are over, or leaves nothing of the learning rate.
        """
        if self.schedule.warmup >= rounds:
            raise ValueError(f"training.schedule.warmup = {self.schedule.warmup}: must be less than rounds = {rounds}")
        if not self.lr * self.lr_factor(rounds, rounds):
            raise ValueError(
                f"training.schedule.gamma = {self.schedule.gamma:g}: must be larger: "
                f"the learning rate is 0 in round {rounds}"
            )


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | str) or (isinstance(value, float) and isfinite(value))


def settings_of(recipe: TrainingSettings | Mapping[str, Any], beside: Sequence[str]) -> TrainingSettings:
    """Return what a caller of `train` has as its recipe.

    Args:
        recipe: the section of an experiment, or its keys.
        beside: keywords that say what it says too.

    Raises:
        ExperimentError: it is not one, one of its keys is wrong or of no use in one training, or there are keywords.
    """
    if beside:
        raise ExperimentError(f"recipe: expected {beside[0]} in it, not beside it")
    try:
        settings = recipe if isinstance(recipe, TrainingSettings) else TrainingSettings.model_validate(dict(recipe))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["recipe", *map(str, first["loc"])])
        raise ExperimentError(f"{key} = {quoted(first['input'])}: {first['msg']}") from error
    if not settings.schedule.is_constant:
        raise ExperimentError(
            f"recipe.schedule.kind = {settings.schedule.kind!r}: counts rounds, and this is one training: expected "
            "local_schedule, over its steps"
        )
    return settings


@dataclass(frozen=True)
class Recipe:
    """One training; what makes its steps is in the settings, whole, so that a new key needs no way of its own."""

    settings: TrainingSettings
    """Batch size, optimizer and what it takes."""
    epochs: int
    """Passes over the data in this training; those of the settings are a round's, out of which a plan is made."""
    proximal: float = 0.0
    """μ of the term μ/2 ‖w − w_start‖² that is added to the loss (Li et al. 2020, "FedProx", section 3.2)."""
    seed: int = 0
    """Any int; shuffling, dropout and augmentation derive from it."""
    steps: int = 0
    """Optimizer steps in this training, in place of epochs; 0: epochs."""
    lr_factor: float = 1.0
    """Of the learning rate, whatever the schedule over the steps."""
    before: int = 0
    """Epochs, or steps, that the round has trained before this: the schedule over its steps goes on from there."""
    after: int = 0
    """Epochs, or steps, that the round will train after this."""

    def total_steps(self, steps_of_epoch: int) -> int:
        """Return how many optimizer steps this training has."""
        return self.steps or self.epochs * steps_of_epoch
