"""Answers as the page's script reads them: JSON, and one line for what is wrong."""

from collections.abc import Callable
from typing import TypeVar

from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from lotteryfl.common.text import printable

T = TypeVar("T")

NO_STORE = {"Cache-Control": "no-store"}
"""Headers of whatever is not to be kept."""


def as_json(value: object) -> bytes:
    """Return JSON; numbers that are not finite are null."""
    return to_json(value, inf_nan_mode="null")


def answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer that nobody keeps: bytes are JSON already."""
    content = value if isinstance(value, bytes) else as_json(value)
    return Response(content, status, {**NO_STORE, **(headers or {})}, "application/json")


def refusal(status: int, why: str, headers: dict[str, str] | None = None) -> Response:
    """Return what is wrong, in one line."""
    return answer({"error": printable(why)}, status, headers)


def parameter(request: Request, name: str, read: Callable[[str], T], default: T) -> T:
    """Return a parameter of the address.

    Raises:
        HTTPException: it cannot be read.
    """
    given = request.query_params.get(name)
    if given is None:
        return default
    try:
        return read(given)
    except ValueError as error:
        raise HTTPException(400, f"{name} = {given[:80]!r}: cannot be used") from error


def number(least: int, most: int) -> Callable[[str], int]:
    """Return what reads a whole number within bounds."""

    def read(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise ValueError(text)
        return value

    return read


def one_of(*words: str) -> Callable[[str], str]:
    """Return what reads one of some words."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return read
