"""What code of a worker's own does within a training; without it a training is as it always was."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Model = Callable[..., Any]
"""From what the objective gives it to outputs."""

LossOf = Callable[[Model, Any], Tensor]
"""(model, batch) → loss of shape ()."""


@dataclass(frozen=True)
class Hooks:
    """Called by `train_by_recipe`, in whose own time; None: nothing is."""

    loss: Callable[[Model, Any, LossOf], Tensor] | None = None
    """(model, compiled or not, batch, the objective's own) → loss, in place of that; within autocast, if there is."""
    before_step: Callable[[int], object] | None = None
    """(step from 1): the gradients of all its batches are there, and nothing has been done with them."""
    after_step: Callable[[int], object] | None = None
    """(step from 1): it has been taken, and what is pruned is 0."""
    after_epoch: Callable[[int], object] | None = None
    """(epoch from 1): the weights are those that go on training, where there is a mean over steps, too."""
    beside: Sequence[Tensor] = ()
    """What is trained beside the model's parameters: leaves that require a gradient. They are in no mean over steps."""
    towards: Mapping[str, Tensor] | None = None
    """What the proximal term pulls towards, by the parameters' plain names; None: where they start."""


NONE = Hooks()
