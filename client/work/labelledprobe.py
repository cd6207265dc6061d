"""One look at a client's labelled data before any work is done on it: are these batches, does the model take them?"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from lotteryfl.client.work.namedparts import named_parts
from lotteryfl.common.errors import TaskError
from lotteryfl.common.memory.need import Activations
from lotteryfl.common.owncode.usercode import first_line
from lotteryfl.common.seeding import seeded
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.tasks.modelcopy import own_copy
from lotteryfl.common.tasks.sampling import first_of
from lotteryfl.common.text import kind
from lotteryfl.common.training.evaluation import mode, predicted_classes
from lotteryfl.common.training.examples import Examples
from lotteryfl.common.training.given import is_stream, stream_length
from lotteryfl.common.training.loaded import Loaded
from lotteryfl.common.training.objective import Labelled
from lotteryfl.common.training.structure import Unbuilt, is_tensors

_EXAMPLES = 8
"""Of each part of the data, at most; of tensors all labels are looked at."""

_LABELS = (torch.int64, torch.uint8)
"""What torch's cross entropy takes as classes."""


_Scratch = Callable[[torch.device], nn.Module]
"""Gives the copy of the model on a device that is thrown away after a look; made if it is asked for."""


class Answer(NamedTuple):
    """What the model makes of inputs of one kind."""

    classes: int
    """Columns of its logits."""
    activations: Activations


class LabelledProbe:
    """Looks at what one client after the other holds; nothing that it does is left for the work."""

    def __init__(self, task: str, model: nn.Module, device: torch.device, evaluation_batch: int) -> None:
        """Set what the data is for.

        Args:
            task: its name.
            model: that no work is done with; copied for every look.
            device: where the work is done.
            evaluation_batch: examples at a time of an evaluation.
        """
        self._task = task
        self._model = model
        self._device = device
        self._evaluation_batch = evaluation_batch
        self._answers: dict[tuple[object, ...], Answer] = {}  # by what is known of inputs

    def look(self, client: int, data: ClientData, everybodys: Dataset[Any] | None) -> Activations:
        """Check the first batch of each part of a client's data.

        Returns:
            What goes through the model, at most.

        Raises:
            TaskError: a batch is no pair, the model does not take the inputs, or a label is none of its classes.
        """
        parts = named_parts(self._task, client, data, everybodys)
        scratch = cache(lambda device: own_copy(self._model, self._task).to(device))
        with seeded(0, self._device):  # what is drawn here is not missing later
            found = [self._look_at(what, part, scratch).activations for what, part in parts]
        evaluated = max(_length(part, self._evaluation_batch) for _, part in parts)
        return Activations(
            kept=max(each.kept for each in found),
            widest=max(each.widest for each in found),
            evaluated=min(evaluated, self._evaluation_batch),
        )

    def _look_at(self, what: str, data: Dataset[Any], scratch: _Scratch) -> Answer:
        inputs, labels, count = _first_batch(what, data)
        answer = self._answer(what, inputs, count, scratch)
        _check_labels(what, labels.cpu(), answer.classes)  # on a GPU a wrong one would be the end of the process
        return answer

    def _answer(self, what: str, inputs: Any, count: int, scratch: _Scratch) -> Answer:
        """Ask the model; of numbers that are measured it takes all or none, of indices it may lack some."""
        is_measured = isinstance(inputs, Tensor) and inputs.is_floating_point()
        key = (count, inputs.shape[1:], inputs.dtype) if is_measured else ()
        if answer := self._answers.get(key):
            return answer
        device = self._device if is_measured else torch.device("cpu")  # where a missing one ends no process
        model = scratch(device)
        try:
            logits, activations = forward_once(model, inputs.to(device), count)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise TaskError(f"{what}: the model does not take inputs of {_form(inputs)}: {reason}") from error
        predicted_classes(logits)
        if len(logits) != count:
            raise TaskError(
                f"{what}: the model's output has {_form(logits)}: expected a row for each of {count} examples"
            )
        answer = Answer(logits.shape[1], activations)
        if is_measured:
            self._answers[key] = answer
        return answer


def forward_once(model: nn.Module, inputs: Any, count: int) -> tuple[Any, Activations]:
    """Return what a model makes of a batch of so many examples in eval mode, and how much goes through it for each."""
    kept, widest = 0, 0

    def note(_module: nn.Module, taken: tuple[Any, ...], given: Any) -> None:
        nonlocal kept, widest
        kept += _bytes(given)
        widest = max(widest, _bytes(given) + sum(map(_bytes, taken)))

    leaves = [module for module in model.modules() if not any(True for _ in module.children())]
    hooks = [module.register_forward_hook(note) for module in leaves]
    try:
        with mode(model, training=False), torch.no_grad():
            output = model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return output, Activations(kept // count, widest // count)


def _bytes(value: Any) -> int:
    return value.nbytes if isinstance(value, Tensor) else 0


def _first_batch(what: str, data: Dataset[Any]) -> tuple[Any, Tensor, int]:
    """Return inputs, labels and number of the first examples; of tensors, all labels."""
    in_memory = is_tensors(data)
    batch = _in_memory(data) if is_tensors(data) else _read(data)
    if not isinstance(batch, tuple | list) or len(batch) != 2 or not _can_move(batch[0]) or not _can_move(batch[1]):
        raise TaskError(f"{what}: a batch is {_form(batch)}: expected a pair (inputs, labels) of tensors")
    inputs, labels = batch
    if not isinstance(labels, Tensor) or labels.dim() != 1 or labels.dtype not in _LABELS:
        raise TaskError(f"{what}: labels of {_form(labels)}: expected classes, torch.int64 of shape (examples,)")
    count = min(_EXAMPLES, len(labels))
    # A copy: a model that works on its inputs in place would change the client's examples.
    return inputs[:count].clone() if in_memory else inputs, labels, count


def _in_memory(data: TensorDataset) -> Any:
    """Return inputs, the first ones at least, and all labels."""
    return (data[:_EXAMPLES][0], data.labels) if isinstance(data, Unbuilt) else data.tensors


def _read(data: Dataset[Any]) -> Any:
    return next(Examples(first_of(data, _EXAMPLES), torch.device("cpu"), Labelled()).in_order(_EXAMPLES)).content


def _length(data: Dataset[Any], batch_size: int) -> int:
    source = data.data if isinstance(data, Loaded) else data
    return stream_length(source, batch_size) if is_stream(source) else len(source)  # type: ignore[arg-type]


def _can_move(value: Any) -> bool:
    move: Callable[..., Any] | None = getattr(value, "to", None)
    return callable(move)


def _check_labels(what: str, labels: Tensor, classes: int) -> None:
    for label in (int(labels.min()), int(labels.max())):
        if not 0 <= label < classes:
            raise TaskError(f"{what}: label {label}: expected 0 to {classes - 1}, as the model has {classes} outputs")


def _form(value: Any) -> str:
    """Describe what came, without what it holds."""
    if isinstance(value, Tensor):
        return f"shape {tuple(value.shape)} and {value.dtype}"
    return f"a {kind(value)}"
