"""How a model is trained: the keys of an experiment's `training` section, and what is particular to one training."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from lotteryfl.common.section import Count, Section

OptimizerName = Literal["sgd", "adam", "adamw"]
"""Which of torch's optimizers takes the steps."""


class TrainingSettings(Section):
    """Local training on a client."""

    epochs: Count = 5
    batch_size: Count = 8
    optimizer: OptimizerName = "sgd"
    lr: float = Field(0.1, gt=0)
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """For sgd; the others keep torch's defaults."""
    weight_decay: float = Field(0.0, ge=0)
    threads: int = Field(1, ge=1, le=1024)
    """torch threads of a worker: part of the experiment, because it changes the order of sums."""
    loader_workers: int = Field(0, ge=0, le=64)
    """Processes that read examples of data sets that are not in memory: part of the experiment, because each draws by
    itself what a data set draws unasked."""


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
    """Any int; shuffling and dropout derive from it."""
