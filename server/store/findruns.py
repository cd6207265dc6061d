"""Runs where people say that they are: run directories, and folders that have some right inside."""

from collections.abc import Callable, Iterable
from pathlib import Path

from lotteryfl.common.errors import LotteryFLError


def is_run(path: Path) -> bool:
    """Tell whether a folder is a run directory."""
    return (path / "run.db").is_file()


def require_run(path: Path) -> None:
    """Check that a folder is a run directory.

    Raises:
        LotteryFLError: it is none.
    """
    if not is_run(path):
        raise LotteryFLError(f"{path}: is no run directory: it has no run.db")


def runs_in(path: Path, is_one: Callable[[Path], bool] = is_run) -> list[Path]:
    """Return a path, if it is a run directory, or else those right inside it; none: there are none.

    Args:
        path: a folder, or anything else.
        is_one: what counts as one.
    """
    return [path] if is_one(path) else sorted(each for each in path.glob("*") if is_one(each))


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Return the run directories among the paths and right inside them, such as those of `lotteryfl compare`.

    Raises:
        LotteryFLError: one of the paths neither is nor holds one.
    """
    found: dict[Path, None] = {}
    for path in paths:
        inside = runs_in(path)
        if not inside:
            raise LotteryFLError(f"{path}: is no run directory: it has no run.db; nor has a folder in it")
        found |= dict.fromkeys(inside)
    return list(found)
