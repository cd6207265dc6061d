"""What settings of every kind of place are made of: how a program is called there, and variables."""

import re
import shlex
from typing import Annotated

from pydantic import AfterValidator

from lotteryfl.common.security.secretnames import is_secret

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _program(program: str) -> str:
    try:
        words = shlex.split(program)
    except ValueError as error:
        raise ValueError(f"program = {program!r}: {error}; expected words as a shell takes them") from None
    if not words or words[0].startswith("-"):
        raise ValueError(f"program = {program!r}: expected how lotteryfl is called there, as ~/venv/bin/lotteryfl")
    return program


def _environment(variables: dict[str, str]) -> dict[str, str]:
    for name in variables:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"environment.{name}: is no name of a variable")
        if is_secret(name):
            raise ValueError(
                f"environment.{name}: is called as a secret is, and what is launched can be read by others"
            )
    return variables


Program = Annotated[str, AfterValidator(_program)]
"""Words as a shell takes them, of which the first is no option."""

Environment = Annotated[dict[str, str], AfterValidator(_environment)]
"""Variables by name; none is called as a secret is."""
