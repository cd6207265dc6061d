"""What a local algorithm is: the half of a method that a client does, in code that its worker's operator has named."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

if TYPE_CHECKING:
    from lotteryfl.client.local.work import LocalWork

Model = Callable[..., Any]
"""From what the task's objective gives it to outputs: a module, compiled or not, or any callable in its place."""

LossOf = Callable[[Model, Any], Tensor]
"""(model, batch) → the task's loss, of shape ()."""


@dataclass(frozen=True)
class Phase:
    """One training with a fresh optimizer and an order of examples of its own.

    The numbers of steps and epochs, and schedules over them, go on from phase to phase.
    """

    trains: Sequence[str] = ("*",)
    """Patterns of the parameters' names; the others keep their values, bit for bit."""
    tensors: Sequence[str] = ()
    """Patterns of the names of the strategy's tensors that train beside them."""
    epochs: int = 0
    """0, where steps are 0 too: what the plan says, divided among the phases that do not say, the first ones longer."""
    steps: int = 0
    """In place of epochs."""


class LocalAlgorithm:
    """A method's half on the client: hooks around the training of a plan, all with defaults that leave it as it is.

    One object does one assignment. It is to touch nothing but `self.work`, and keeps nothing for the next: what a
    method remembers is in `work.tensors`. All hooks but `loss` are called without gradients, so that tensors may be
    changed in place; `work.train` and `work.gradients` have theirs all the same.
    """

    name: ClassVar[str] = ""
    """By which the coordinator's half, `Strategy.local`, names it."""

    def __init__(self, work: "LocalWork") -> None:
        """Begin an assignment, with nothing done yet: what there is to do belongs in `begin`."""
        self.work = work

    def downloaded(self) -> nn.Module:
        """Return the model that the client is measured by before all else; it may not be a changed `work.model`."""
        return self.work.model

    def begin(self) -> None:
        """Be called before training: the model is as downloaded, and pruned and rewound as the plan says."""

    def phases(self) -> Iterable[Phase]:
        """Return what is trained, one after the other; here everything, for as long as the plan says."""
        return (Phase(),)

    def loss(self, model: Model, batch: Any, loss_of: LossOf) -> Tensor:
        """Return the loss of a batch, of shape ().

        Args:
            model: that is trained; `torch.compile`'s of it, where the experiment says so.
            batch: as the task's objective has it.
            loss_of: the task's loss, also of other callables than `model`.
        """
        return loss_of(model, batch)

    def before_step(self, step: int) -> None:
        """Be called when a step's gradients are there: `.grad` of what trains may be changed in place.

        Pull, clipping and pruning of gradients come after it.

        Args:
            step: from 1, over all phases.
        """

    def after_step(self, step: int) -> None:
        """Be called when a step has been taken; what is pruned is 0.

        Args:
            step: from 1, over all phases.
        """

    def after_epoch(self, epoch: int) -> None:
        """Be called after every pass over the data.

        Args:
            epoch: from 1, over all phases.
        """

    def end(self) -> None:
        """Be called after training; what goes up is the model and `work.tensors` as they are then."""

    def personalised(self) -> nn.Module:
        """Return the model that the client is measured by; it may not be a changed `work.model`, which has gone up."""
        return self.work.model


HOOKS = {
    "begin": 0,
    "phases": 0,
    "loss": 3,
    "before_step": 1,
    "after_step": 1,
    "after_epoch": 1,
    "end": 0,
    "downloaded": 0,
    "personalised": 0,
}
"""By name of the hook, how many arguments it is called with."""
