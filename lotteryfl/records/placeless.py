"""An experiment as it may be told to everybody: without places, secrets, and who may work."""

from pathlib import PureWindowsPath
from typing import NamedTuple

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.experiment.settings import AccessSettings
from lotteryfl.common.security.secretnames import is_secret
from lotteryfl.common.tasks import without_places


class Told(NamedTuple):
    """What is told of an experiment."""

    experiment: Experiment
    withheld: tuple[str, ...]
    """Keys that are left out of it, or are at their default in it."""


def told(experiment: Experiment) -> Told:
    """Return what is told of an experiment.

    A task's and a model's file go by their names, as they do to workers. Texts among the options of a task or strategy
    are left out where they are places, or called as secrets are.

    Raises:
        LotteryFLError: its model is of a folder whose config cannot be read.
    """
    try:
        bare = without_places(experiment).model_copy(update={"access": AccessSettings()})
    except ValueError as error:
        raise LotteryFLError(f"task.model = {experiment.task.model!r}: {error}") from error
    withheld = ["task.initial"] if experiment.task.initial else []
    sections: dict[str, object] = {}
    for name in ("task", "strategy"):
        section = getattr(bare, name)
        kept = {key: value for key, value in section.options.items() if not (is_secret(key) or _is_place(value))}
        withheld += [f"{name}.options.{key}" for key in section.options if key not in kept]
        sections[name] = section.model_copy(update={"options": kept})
    return Told(bare.model_copy(update=sections), tuple(withheld))


def _is_place(value: object) -> bool:
    if not isinstance(value, str):
        return False
    path = PureWindowsPath(value)  # which takes / for a root, too
    return bool(path.root or path.drive) or value.startswith(("~", "./", "../", ".\\", "..\\")) or "://" in value
