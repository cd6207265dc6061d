"""How a command's logs are to be, known before its own arguments are read: what is wrong with those is said so too."""

import os
from collections.abc import Collection, Sequence

from lotteryfl.common.telemetry import logs

FORMAT_VARIABLE = "LOTTERYFL_LOG_FORMAT"
LEVEL_VARIABLE = "LOTTERYFL_LOG_LEVEL"

_USUAL = {"run": "warning", "serve": "warning", "work": "info", "simulate": "warning"}
"""By command that can be told otherwise, from which level on it logs."""


def set_up_logs(arguments: Sequence[str], commands: Collection[str]) -> None:
    """Have this process, and those that it starts, log as its command's options or the environment say.

    Args:
        arguments: of the program.
        commands: that there are.

    Raises:
        LogSettingError: a format or a level is none.
    """
    command = next((each for each in arguments if each in commands), "")
    if command not in _USUAL:
        logs.set_up("text", "")
        return
    form = _asked(arguments, "--log-format", FORMAT_VARIABLE) or "text"
    level = _asked(arguments, "--log-level", LEVEL_VARIABLE)
    os.environ[FORMAT_VARIABLE], os.environ[LEVEL_VARIABLE] = form, level
    logs.set_up(form, level, _USUAL[command])


def _asked(arguments: Sequence[str], option: str, variable: str) -> str:
    """Return what an option, or else a variable, says; '': nothing."""
    given = os.environ.get(variable, "")
    for number, argument in enumerate(arguments):
        if argument.startswith(f"{option}="):
            given = argument.removeprefix(f"{option}=")
        elif argument == option:
            given = next(iter(arguments[number + 1 :]), "")
    return given
