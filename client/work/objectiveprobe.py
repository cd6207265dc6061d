"""One look at a client's data before any work is done on it: do batches, model and the task's objective go together?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lotteryfl.client.work.namedparts import named_parts
from lotteryfl.common.errors import OutputError, TaskError
from lotteryfl.common.memory.need import Activations
from lotteryfl.common.owncode.usercode import first_line, place_of
from lotteryfl.common.seeding import seeded
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.tasks.modelcopy import own_copy
from lotteryfl.common.tasks.sampling import first_of
from lotteryfl.common.training.evaluation import mode
from lotteryfl.common.training.examples import Examples
from lotteryfl.common.training.measured import Meter
from lotteryfl.common.training.objective import Objective, checked_loss

_EXAMPLES = 2
"""Of each part of the data."""

_MOST = 300
"""Characters by which a batch is described."""

_CPU = torch.device("cpu")
"""Where a wrong index is an error, and not the end of the process."""


class ObjectiveProbe:
    """Tries what each client holds, once, on a copy of the model; nothing that it does is left for the work."""

    def __init__(self, task: str, model: nn.Module, objective: Objective) -> None:
        """Set what is tried.

        Args:
            task: its name.
            model: that no work is done with.
            objective: the task's.
        """
        self._task = task
        self._model = model
        self._objective = objective
        self._seen: set[int] = set()

    def look(self, client: int, data: ClientData, everybodys: Dataset[Any] | None) -> Activations:
        """Try a batch of each part of a client's data, backwards too where it is trained on.

        Returns:
            Nothing that is known of what goes through the model.

        Raises:
            TaskError: they do not go together, or the loss is not finite.
        """
        if client in self._seen:
            return Activations()
        scratch = own_copy(self._model, self._task).to(_CPU)
        with seeded(0):  # what is drawn here is not missing later
            for index, (what, part) in enumerate(named_parts(self._task, client, data, everybodys)):
                self._try(what, part, scratch, trains=index == 0)
        self._seen.add(client)
        return Activations()

    def _try(self, what: str, part: Dataset[Any], model: nn.Module, *, trains: bool) -> None:
        try:
            batch = next(Examples(first_of(part, _EXAMPLES), _CPU, self._objective).in_order(_EXAMPLES)).content
        except Exception as error:
            raise TaskError(f"{what}: {self._reason(error)}") from error
        try:
            with mode(model, training=False), torch.set_grad_enabled(trains):
                outputs = self._objective.outputs(model, batch)
                loss = checked_loss(self._objective, outputs, batch)
                if trains:
                    loss.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                Meter(self._objective, _CPU).see(outputs, batch)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise TaskError(f"{what}: a batch of {_form(batch)[:_MOST]}: {self._reason(error)}") from error
        if not loss.isfinite():
            raise TaskError(f"{what}: a batch of {_form(batch)[:_MOST]}: the loss is {loss.item()}")

    def _reason(self, error: Exception) -> str:
        """Say what went wrong and where, in the user's file if it was there, or came of there."""
        place = place_of(error.__traceback__)
        if isinstance(error, OutputError) and (loss := getattr(type(self._objective).loss, "__code__", None)):
            place = f"{Path(loss.co_filename).name}:{loss.co_firstlineno}"
        return f"{type(error).__name__} at {place}: {first_line(error)}"


def _form(value: Any) -> str:
    """Describe a batch, without what it holds."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_form(part)}" for key, part in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(_form, value)) + ")"
    return type(value).__name__
