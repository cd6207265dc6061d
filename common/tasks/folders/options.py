"""What `task.options` says of a task without code."""

from dataclasses import dataclass, field

from torch import nn

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.models import architectures
from lotteryfl.common.text import quoted

Option = bool | int | float | str


@dataclass(frozen=True)
class Options:
    """The inputs and labels of a task whose model is built before any data is seen."""

    shape: tuple[int, ...]
    """Of an input: (features,), or (channels, size, size) of an image."""
    classes: int
    """0: labels are numbers, as for a regression."""
    names: tuple[str, ...]
    """Of the classes; empty: they are numbers from 0."""
    given: dict[str, Option] = field(hash=False)

    @property
    def is_table(self) -> bool:
        """Whether an input is a row of numbers."""
        return len(self.shape) == 1

    def text(self, key: str, default: str = "") -> str:
        """Return an option that is a text."""
        return str(self.given.get(key, default))

    def share(self, key: str, default: float) -> float:
        """Return an option that is a share.

        Raises:
            TaskError: it is none.
        """
        value = self.given.get(key, default)
        if not isinstance(value, float) or not 0 < value < 1:
            raise TaskError(f"task.options.{key} = {quoted(value)}: expected a number between 0 and 1")
        return value


def read_options(experiment: Experiment, known: tuple[str, ...]) -> Options:
    """Return the options of an experiment's task.

    Args:
        experiment: the experiment.
        known: what it may say beside inputs and classes.

    Raises:
        TaskError: one is unknown, missing or has another form.
    """
    given = experiment.task.options
    allowed = ("features", "channels", "size", "classes", *known)
    if unknown := sorted(set(given) - set(allowed)):
        raise TaskError(f"task.options.{unknown[0]}: is unknown, expected {', '.join(allowed)}")
    shape: tuple[int, ...]
    if "features" in given:
        shape = (_count(given, "features", 0),)
    else:
        size = _count(given, "size", 32)
        shape = (_count(given, "channels", 3), size, size)
    if experiment.task.objective in ("regression", "binary"):
        return Options(shape, 0, (), given)
    classes = given.get("classes", "")
    if isinstance(classes, str):
        names = tuple(name.strip() for name in classes.split(","))
        if len(set(names)) < len(names) or len(names) < 2 or not all(names):
            expected = 'their number, or their names as "cat,dog"'
            raise TaskError(f"task.options.classes = {quoted(classes)}: expected {expected}, the same everywhere")
        return Options(shape, len(names), names, given)
    return Options(shape, _count(given, "classes", 0), (), given)


def build_model(experiment: Experiment, options: Options) -> nn.Module:
    """Build `task.model` for inputs and labels of this kind.

    Raises:
        TaskError: there is no such architecture for them.
    """
    known = architectures("tabular" if options.is_table else "cifar10")
    if experiment.task.model not in known:
        raise TaskError(f"task.model = {quoted(experiment.task.model)}: expected one of {', '.join(known)}")
    return known[experiment.task.model](*options.shape[:2], options.classes or 1)


def _count(given: dict[str, Option], key: str, default: int) -> int:
    value = given.get(key, default)
    if type(value) is not int or value < 1:
        raise TaskError(f"task.options.{key} = {quoted(value)}: expected an integer from 1")
    return value
