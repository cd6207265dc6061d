"""Command lines of other machines' shells: what a user wrote as a value is one word there, and never more."""

import shlex
from collections.abc import Iterable

from lotteryfl.launching.settings import LaunchSettings

_HOME = "~/"


def called(settings: LaunchSettings, arguments: Iterable[str]) -> str:
    """Return the line of sh that calls the program there."""
    first, *rest = shlex.split(settings.program)
    return " ".join([_path(first), shlex.join([*rest, *arguments])]).rstrip()


def prepared(settings: LaunchSettings) -> list[str]:
    """Return the lines of sh before it: `setup`, which is code and meant to be, and the environment."""
    return [*settings.setup, *(f"export {name}={shlex.quote(value)}" for name, value in settings.environment.items())]


def _path(path: str) -> str:
    """Return a path as one word; at its beginning ~/ is the home there."""
    return f'"$HOME"/{shlex.quote(path.removeprefix(_HOME))}' if path.startswith(_HOME) else shlex.quote(path)
