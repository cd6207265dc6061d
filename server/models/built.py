"""A model of a run as a module, built by its task, with an example of what it gets."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.owncode.usercode import first_line
from lotteryfl.common.pruning.parameters import copy_model
from lotteryfl.common.pruning.structured.resizing import Smaller, load_structured, smaller
from lotteryfl.common.randomness import model_seed
from lotteryfl.common.seeding import seeded
from lotteryfl.common.tasks import Task, load_task
from lotteryfl.common.tasks.sampling import first_of
from lotteryfl.common.training.examples import Examples
from lotteryfl.common.training.objective import Labelled
from lotteryfl.common.training.objectives import HuggingFace
from lotteryfl.common.training.structure import mapped, tensors_in
from lotteryfl.server.store.rundir import RunDirectory

EXAMPLES = 2
"""Of a client, in the example; of one alone its number would be taken for a constant."""

SHARE = 1e-4
"""Of the largest output: by how much outputs may differ that floating point rounds another way."""

_MOST = 300
"""Characters of what torch says."""


@dataclass(frozen=True)
class Built:
    """A plain model in eval mode on the CPU."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    """In the order in which the model names them, as graphs have them."""

    def outputs(self) -> list[Tensor]:
        """Return the tensors that it makes of the example."""
        with torch.no_grad():
            return list(tensors_in(self.model(*self.args, **self.kwargs)))

    def halved(self) -> "Built":
        """Return a copy of it in float16, for numbers of it."""
        args, kwargs = mapped(_halved, self.args), mapped(_halved, self.kwargs)
        return Built(copy_model(self.model).half(), args, kwargs)

    def with_another(self) -> "Built":
        """Return it with the first of the examples once more."""
        return Built(self.model, mapped(_with_another, self.args), mapped(_with_another, self.kwargs))

    def at_random(self) -> "Built":
        """Return it with other numbers of floating point, drawn at random."""
        with seeded(0):
            return Built(self.model, mapped(_drawn, self.args), mapped(_drawn, self.kwargs))


def built(run: RunDirectory, tensors: Mapping[str, Tensor], client: int, tasks: Sequence[str]) -> Built:
    """Return a model of a run with these values.

    Args:
        run: the model's.
        tensors: its plain state dict.
        client: whose first training examples are the example.
        tasks: files and modules of tasks that are allowed here.

    Raises:
        LotteryFLError: the task is not allowed here, the client's data cannot be had, or model and values do not go
            together.
    """
    task = load_task(run.experiment, tasks)
    model = _model(task, run, tensors)
    data, objective = task.client_data(client).train, task.objective or Labelled()
    batch = next(Examples(first_of(data, EXAMPLES), torch.device("cpu"), objective).in_order(EXAMPLES)).content
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    hook = model.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
    try:
        with torch.no_grad():
            objective.outputs(model, batch)
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise LotteryFLError(
            f"task {task.name}: the model does not take a batch of client {client}: {reason}"
        ) from error
    finally:
        hook.remove()
    if not calls:
        raise LotteryFLError(f"task {task.name}: its objective does not call the model, but what is in it")
    args, kwargs = calls[0]
    if isinstance(objective, HuggingFace):
        kwargs.pop(objective.labels_key, None)
    names = [name for name in inspect.signature(model.forward).parameters if name in kwargs]
    return Built(model, args, {name: kwargs[name] for name in dict.fromkeys([*names, *kwargs])})


def smaller_model(whole: Built) -> tuple[Built, Smaller]:
    """Return a model without the rows that it can do without; its outputs are the same, or nothing is returned.

    Raises:
        LotteryFLError: there is nothing to take out, the model cannot be followed or its outputs are others.
    """
    try:
        found = smaller(whole.model, whole.args, whole.kwargs)
    except LotteryFLError as error:
        raise LotteryFLError(f"--structured: {error}") from error
    model = copy_model(whole.model)
    try:
        load_structured(model, found.tensors)
        small = Built(model, whole.args, whole.kwargs)
        for ours, theirs in ((small, whole), (small.at_random(), whole.at_random())):
            require_same("--structured: the smaller model", ours.outputs(), theirs.outputs())
    except (RuntimeError, ValueError, TypeError) as error:
        raise LotteryFLError(f"--structured: the model cannot be made smaller: {first_line(error)}") from error
    return small, found


def require_same(what: str, found: Sequence[Tensor], expected: Sequence[Tensor], share: float = SHARE) -> None:
    """Check that outputs are those of the model, within what floating point rounds.

    Args:
        what: whose they are.
        found: its outputs.
        expected: the model's.
        share: of the largest of an output's numbers, that another may be away.

    Raises:
        LotteryFLError: they are not.
    """
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True), start=1):
        if ours.shape != theirs.shape:
            raise LotteryFLError(
                f"{what} gives output {number} of shape {list(ours.shape)}, expected {list(theirs.shape)}"
            )
        most = float(theirs.double().abs().max()) if theirs.numel() else 0.0
        away = float((ours.double() - theirs.double()).abs().max()) if theirs.numel() else 0.0
        if not away <= share * most:
            raise LotteryFLError(f"{what} gives output {number} {away:g} away from the model's, of at most {most:g}")


def _model(task: Task, run: RunDirectory, tensors: Mapping[str, Tensor]) -> nn.Module:
    with seeded(model_seed(run.experiment.seed)):
        model = task.model()
    try:
        model.load_state_dict(dict(tensors))
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise LotteryFLError(f"task {task.name}: its model is not the run's: {said[:_MOST]}") from error
    return model.train(mode=False)


def _drawn(tensor: Tensor) -> Tensor:
    return torch.randn_like(tensor) if tensor.is_floating_point() else tensor


def _with_another(tensor: Tensor) -> Tensor:
    return torch.cat([tensor, tensor[:1]]) if tensor.dim() and len(tensor) == EXAMPLES else tensor


def _halved(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.is_floating_point() else tensor
