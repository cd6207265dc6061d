"""What the environment may say of who this process is to a coordinator, and of whom it tells what it does."""

TOKEN_VARIABLE = "LOTTERYFL_TOKEN"  # noqa: S105 - the variable's name
TLS_PREFIX = "LOTTERYFL_TLS_"

VARIABLES = (TOKEN_VARIABLE, *(f"{TLS_PREFIX}{name}" for name in ("CERT", "KEY", "CA")))
"""All of them: not for processes that are somebody else."""

TRACES_VARIABLE = "LOTTERYFL_TRACES"
"""Where a command's traces go that is not told by --traces."""
