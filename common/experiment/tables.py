"""Settings that people write in TOML: how they are read, overridden, and found fault with in one line."""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.text import quoted

TOMLTable = dict[str, Any]

_NO_TOML = (ValueError, RecursionError)
"""What tomllib raises: a number of thousands of digits and values nested as deep are no TOMLDecodeError."""


def read_table(path: Path) -> TOMLTable:
    """Read a file of TOML.

    Raises:
        ExperimentError: it cannot be read or parsed.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # editors on Windows begin a file with a BOM
    except OSError as error:
        raise ExperimentError(f"{path}: {error.strerror or error}") from error
    except _NO_TOML as error:
        raise ExperimentError(f"{path}: not valid TOML: {error}") from error


def apply_override(table: TOMLTable, override: str, option: str = "--set", example: str = "training.lr=0.05") -> None:
    """Set a key as `section.key=value` says.

    Args:
        table: that has the key, or not yet.
        override: as it was given.
        option: by which.
        example: of what is expected of it.

    Raises:
        ExperimentError: it is none, or names a value as a section.
    """
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ExperimentError(f"{option} {override}: expected KEY=VALUE, as in {option} {example}")
    for depth, part in enumerate(parts[:-1], start=1):
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ExperimentError(f"{option} {override}: {'.'.join(parts[:depth])} is a value, not a section")
    table[parts[-1]] = _toml_value(text.strip())


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except _NO_TOML:
        return text  # a bare word is a string: --set strategy.name=fedavg


@contextmanager
def explained(model: type[BaseModel], source: str, *, resolved: bool = False) -> Iterator[None]:
    """Raise what a validation finds wrong as one line.

    Args:
        model: what is validated.
        source: where the settings came from.
        resolved: a program wrote them, not a person.

    Raises:
        ExperimentError: naming every wrong key, its value and what is allowed.
    """
    try:
        yield
    except ValidationError as error:
        sentences = _sentences(model, error, resolved=resolved)
        raise ExperimentError(f"{source}: {'; '.join(sentences)}") from error


def _sentences(model: type[BaseModel], error: ValidationError, *, resolved: bool) -> Iterator[str]:
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        named = f"{key} = {quoted(item['input'])}" if key else quoted(item["input"])
        if item["type"] == "extra_forbidden":
            known = "a newer lotteryfl has it" if resolved else f"allowed here: {', '.join(_known(model, item['loc']))}"
            yield f"unknown key {named}; {known}"
        elif item["type"] == "missing":
            yield f"{key} is missing"
        elif item["type"] == "json_invalid":
            yield f"is not valid JSON: {item['ctx']['error']}"
        elif item["type"] == "value_error":
            yield str(item["ctx"]["error"])
        else:
            yield f"{named}: {item['msg'][:1].lower()}{item['msg'][1:]}"


def _known(section: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location[:-1]:
        if isinstance(part, str):  # a number is the place of one of several sections
            section = next(_sections(section.model_fields[part].annotation), section)
    return list(section.model_fields)


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """Return the models that an annotation speaks of: it is one, or may be one, or many of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)
