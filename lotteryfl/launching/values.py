"""What settings of every kind of place are made of: how a program is called there, variables, and sections."""

import re
import shlex
from collections.abc import Mapping
from typing import Annotated, Any

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


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return both, where what the second says goes before the first, key by key of their sections."""
    found = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            found[key] = merged(below[key], above[key])
    return found
