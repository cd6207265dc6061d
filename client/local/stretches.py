"""The phases of a local algorithm as trainings: for how long each, and of what."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from torch import Tensor

from lotteryfl.client.local.algorithm import Phase
from lotteryfl.common.errors import TaskError
from lotteryfl.common.pruning.modeltensors import ModelTensor
from lotteryfl.common.text import kind, quoted

STEPS_OF_EPOCH = 1000
"""Steps that are taken on for each epoch of `--max-epochs`."""


class Stretch(NamedTuple):
    """A phase with its length; before and after it are the others'."""

    phase: Phase
    length: int
    before: int
    after: int
    in_steps: bool
    """What all lengths are in; otherwise in epochs."""


def stretches(phases: Sequence[Any], length: int, *, in_steps: bool) -> list[Stretch]:
    """Return phases with their lengths.

    Args:
        phases: what an algorithm has returned.
        length: of the plan.
        in_steps: it is in steps, otherwise in epochs; so are all phases, unless all say how long they are.

    Raises:
        TaskError: they are no phases, there are none, or they do not go together.
    """
    for each in phases:
        if not isinstance(each, Phase):
            raise TaskError(f"phases() returned {kind(each)}, expected lotteryfl.Phase")
        if each.epochs < 0 or each.steps < 0 or (each.epochs and each.steps):
            raise TaskError(f"{each}: expected epochs or steps, not below 0")
    if not phases:
        raise TaskError("phases() returned none: expected a lotteryfl.Phase or more")
    open_ = [each for each in phases if not (each.epochs or each.steps)]
    if not open_:
        in_steps = bool(phases[0].steps)
    unit = "steps" if in_steps else "epochs"
    if odd := next((each for each in phases if (each.epochs if in_steps else each.steps)), None):
        whose = "the plan's" if open_ else "the first phase's"
        raise TaskError(f"{odd}: {whose} length is in {unit}: expected all phases in {unit}")
    if len(open_) > length:
        raise TaskError(f"{length} {unit} of the plan are divided among {len(open_)} phases: expected one for each")
    share, longer = divmod(length, len(open_) or 1)
    shares = iter([share + (number < longer) for number in range(len(open_))])
    lengths = [each.steps or each.epochs or next(shares) for each in phases]
    return [
        Stretch(phase, lengths[number], sum(lengths[:number]), sum(lengths[number + 1 :]), in_steps)
        for number, phase in enumerate(phases)
    ]


def check_length(what: str, length: int, most_epochs: int | None, *, in_steps: bool) -> None:
    """Check how long something trains, whose length a coordinator may have said in options.

    Args:
        what: it is.
        length: of it.
        most_epochs: that its worker takes on; None: any.
        in_steps: the length is in steps.

    Raises:
        TaskError: it is too long.
    """
    if most_epochs is None:
        return
    most, unit = (STEPS_OF_EPOCH * most_epochs, "steps") if in_steps else (most_epochs, "epochs")
    if length > most:
        raise TaskError(f"{what}: {length} {unit}, expected at most {most} (--max-epochs)")


@contextmanager
def only(phase: Phase, items: Mapping[str, ModelTensor], tensors: Mapping[str, Tensor]) -> Iterator[Sequence[Tensor]]:
    """Let a model's parameters be trained as a phase says, and yield the tensors that are trained beside them.

    Args:
        phase: which.
        items: the model's, by plain name.
        tensors: the strategy's.

    Raises:
        TaskError: a pattern fits nothing, or what it fits cannot be trained.
    """
    trainable = {name: item for name, item in items.items() if item.is_parameter and item.tensor.requires_grad}
    named = {each: name for name, item in trainable.items() for each in item.names}
    chosen = {named[each] for each in _fitting(phase.trains, named, "parameters that train")}
    besides = _fitting(phase.tensors, tensors, "the strategy's tensors")
    if not chosen and not besides:
        raise TaskError(f"{phase}: trains nothing: expected patterns of parameters, as 'head.*', or of tensors")
    if odd := next((name for name in besides if not tensors[name].is_floating_point()), ""):
        raise TaskError(f"{phase}: {odd!r} is of {tensors[odd].dtype}: expected a tensor of floating-point values")
    beside = [tensors[name] for name in besides]
    still = [item.tensor for name, item in trainable.items() if name not in chosen]
    _require(still, gradients=False)
    _require(beside, gradients=True)
    try:
        yield beside
    finally:
        _require(still, gradients=True)
        _require(beside, gradients=False)


def _fitting(patterns: Sequence[str], names: Mapping[str, object], what: str) -> list[str]:
    if isinstance(patterns, str):
        patterns = (patterns,)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise TaskError(
                f"a phase trains {quoted(pattern)}, which fits none of {what}: {', '.join(list(names)[:20]) or 'none'}"
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _require(tensors: Sequence[Tensor], *, gradients: bool) -> None:
    for tensor in tensors:
        tensor.requires_grad_(gradients)
