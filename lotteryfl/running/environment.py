"""What the environment may say of who this process is to a coordinator, and of whom it tells what it does."""

import os

TOKEN_VARIABLE = "LOTTERYFL_TOKEN"  # noqa: S105 - the variable's name
TLS_PREFIX = "LOTTERYFL_TLS_"

_VARIABLES = (TOKEN_VARIABLE, *(f"{TLS_PREFIX}{name}" for name in ("CERT", "KEY", "CA")))
"""All of them: not for processes that are somebody else."""

TRACES_VARIABLE = "LOTTERYFL_TRACES"
"""Where a command's traces go that is not told by --traces."""


def inherited() -> dict[str, str]:
    """Return this process's environment for one that is somebody else: without who this one is to a coordinator."""
    return {name: value for name, value in os.environ.items() if name not in _VARIABLES}
