"""What record files are called: as their runs' folders."""

from collections.abc import Iterable
from pathlib import Path

from lotteryfl.common.errors import LotteryFLError


def named(runs: Iterable[Path]) -> dict[str, Path]:
    """Return run directories by the names of their records.

    Raises:
        LotteryFLError: two have the same name.
    """
    found: dict[str, Path] = {}
    for path in runs:
        name = path.resolve().name
        if name in found:
            raise LotteryFLError(
                f"{found[name]} and {path}: both are called {name}: submit one of them to another --out"
            )
        found[name] = path
    return found
