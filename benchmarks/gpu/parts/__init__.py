"""The parts of the check, in the order of what is worth most if time runs out.

A part is a module with `rows(setting)`, which yields what it has found as soon as it has found it, and SECONDS, what it
should take on a card at most: it is not begun where less is left.
"""

import importlib
from collections.abc import Iterator

from benchmarks.gpu.row import Row
from benchmarks.gpu.runs import Setting

PARTS = (
    "tests",
    "bits",
    "masks",
    "keys",
    "memory",
    "workers",
    "stacked",
    "protocol",
    "training",
    "stages",
    "transformer",
    "branches",
    "compiled",
)


def subject_of(part: str) -> str:
    """Return what a part looks at."""
    return (importlib.import_module(f"benchmarks.gpu.parts.{part}").__doc__ or "").strip()


def seconds_of(part: str) -> float:
    """Return how long it should take at most."""
    return float(importlib.import_module(f"benchmarks.gpu.parts.{part}").SECONDS)


def rows_of(part: str, setting: Setting) -> Iterator[Row]:
    """Yield what a part finds."""
    rows: Iterator[Row] = importlib.import_module(f"benchmarks.gpu.parts.{part}").rows(setting)
    yield from rows
