"""The reference of the experiment file: every key, as the models that check it have it."""

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lotteryfl.common.experiment.experiment import LAUNCH, Experiment
from lotteryfl.launching.settings import LaunchSettings
from tools.site.markdown import cell, code, table

_HEAD = ("key", "type", "default", "bounds", "what it is")
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_INTRODUCTION = """# Experiment file: all keys

Made of the code that checks the file. `lotteryfl init` writes one with comments; a key that is left out is at its
default; an unknown one is refused by name. `--set SECTION.KEY=VALUE` sets one on the command line. In parentheses
stands for which strategies or settings a key is, where it is not for all.
"""


def page() -> str:
    """Return the page."""
    sections = [*_sections(Experiment, ""), *_sections(LaunchSettings, LAUNCH)]
    return "\n".join([_INTRODUCTION, *sections])


def _sections(model: type[BaseModel], name: str) -> Iterator[str]:
    """Give a section, and those within it."""
    within = {key: inner for key, field in model.model_fields.items() if (inner := _section_of(field))}
    documented = attribute_docs(model)
    rows = [
        (code(key), _type(field.annotation), code(_default(field)), cell(_bounds(field)), cell(documented.get(key, "")))
        for key, field in model.model_fields.items()
        if key not in within
    ]
    title = f"`[{name}]`" if name else "At the top"
    yield f"\n## {title}\n\n{_first(model)}\n\n{table(_HEAD, rows)}"
    for key, inner in within.items():
        yield from _sections(inner, f"{name}.{key}" if name else key)


def attribute_docs(model: type) -> dict[str, str]:
    """Return the texts that stand under a class's attributes, by name, its bases' too."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if not each.__module__.startswith("lotteryfl."):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for before, after in pairwise(body):
            if (
                isinstance(before, ast.AnnAssign)
                and isinstance(before.target, ast.Name)
                and isinstance(after, ast.Expr)
            ):
                found[before.target.id] = _readable(str(ast.literal_eval(after.value)))
    return found


def _first(model: type) -> str:
    return _readable(inspect.getdoc(model) or "")


def _readable(text: str) -> str:
    """Return a docstring's text; modules that it names are the code's own business."""
    return " ".join(text.split())


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _type(annotation: Any) -> str:
    """Return a type in TOML's words, as a cell has it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return " or ".join(code(json.dumps(each)) for each in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_type(each) for each in arguments if each is not type(None))
    if origin is tuple:
        return (
            f"list of {_type(arguments[0])}"
            if arguments[-1] is Ellipsis
            else f"list of {len(arguments)} {_type(arguments[0])}"
        )
    if origin is dict:
        return f"table of {_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return {str: "text", int: "whole number", float: "number", bool: "true or false"}.get(annotation, str(annotation))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "needed"
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _bounds(field: FieldInfo) -> str:
    return ", ".join(_bound(each) for each in [*field.metadata, *_inner(field.annotation)] if _bound(each))


def _inner(annotation: Any) -> list[Any]:
    """Return what is asked of a list's items, or of one of several types."""
    found: list[Any] = []
    for each in get_args(annotation) if get_origin(annotation) is not Literal else ():
        found += [*getattr(each, "__metadata__", ()), *_inner(each)]
    return list(dict.fromkeys(found))


def _bound(constraint: Any) -> str:
    """Return a bound in signs; '': it is none that can be said so."""
    if isinstance(constraint, FieldInfo):
        return ", ".join(_bound(each) for each in constraint.metadata if _bound(each))
    for name, sign in _SIGNS.items():
        if hasattr(constraint, name):
            return f"{sign} {_number(getattr(constraint, name))}"
    if pattern := getattr(constraint, "pattern", None):
        return code(re.sub(r"\s", " ", str(pattern)))
    lengths = ((name, getattr(constraint, name, None)) for name in ("min_length", "max_length"))
    return ", ".join(f"length {'≥' if name == 'min_length' else '≤'} {_number(each)}" for name, each in lengths if each)


def _number(value: float) -> str:
    exponent = int(value).bit_length() - 1
    return (
        f"2^{exponent}"
        if value == 2**exponent and exponent > 14
        else f"{value:,}"
        if isinstance(value, int)
        else f"{value:g}"
    )
