"""What `task.options` says of a task without code."""

from dataclasses import dataclass, field

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.text import quoted

Option = bool | int | float | str


@dataclass(frozen=True)
class Options:
    """The inputs and labels of a task whose model is built before any data is seen."""

    shape: tuple[int, ...]
    """Of an input: (features,), (channels, size, size) of an image, or (length,) of a text."""
    classes: int
    """0: labels are numbers, as for a regression."""
    names: tuple[str, ...]
    """Of the classes; empty: they are numbers from 0."""
    given: dict[str, Option] = field(hash=False)
    words: int = 0
    """Different numbers that a text's words have; 0: inputs are no texts."""

    @property
    def is_table(self) -> bool:
        """Whether an input is a row of numbers."""
        return len(self.shape) == 1 and not self.words

    @property
    def images(self) -> tuple[int, int, int] | None:
        """Channels, size and outputs, as `common.models.IMAGES` has them; None: inputs are no images."""
        return (*self.shape[:2], self.classes or 1) if len(self.shape) == 3 else None

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
    words = 0
    if "length" in given:
        shape, words = (_count(given, "length", 0),), _count(given, "words", 8192, least=2)
    elif "features" in given:
        shape = (_count(given, "features", 0),)
    else:
        size = _count(given, "size", 32)
        shape = (_count(given, "channels", 3), size, size)
    if experiment.task.objective in ("regression", "binary"):
        return Options(shape, 0, (), given, words)
    classes = given.get("classes", "")
    if isinstance(classes, str):
        names = tuple(name.strip() for name in classes.split(","))
        if len(set(names)) < len(names) or len(names) < 2 or not all(names):
            expected = 'their number, or their names as "cat,dog"'
            raise TaskError(f"task.options.classes = {quoted(classes)}: expected {expected}, the same everywhere")
        return Options(shape, len(names), names, given, words)
    return Options(shape, _count(given, "classes", 0), (), given, words)


def _count(given: dict[str, Option], key: str, default: int, least: int = 1) -> int:
    value = given.get(key, default)
    if type(value) is not int or value < least:
        raise TaskError(f"task.options.{key} = {quoted(value)}: expected an integer from {least}")
    return value
