"""The parts, each measured in a fresh process.

A part is a module with `rows(sizes)`, `FULL` and `QUICK`: the sizes of what is measured, and tiny ones with which it
takes seconds, and its figures only show that it still works.
"""

import importlib
import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor

from benchmarks.harness import Row
from lotteryfl.allocator import keep_freed_memory

PARTS = (
    "pruning",
    "training",
    "stacked",
    "codec",
    "coding",
    "traffic",
    "worker",
    "evaluation",
    "aggregation",
    "stream",
    "memory",
    "round",
    "floor",
    "assignments",
    "ahead",
    "fleet",
    "page",
    "partition",
    "commit",
)


def subject_of(part: str) -> str:
    """Return what a part measures."""
    return (importlib.import_module(f"benchmarks.parts.{part}").__doc__ or "").strip()


def measured(part: str, *, quick: bool = False) -> list[Row]:
    """Return a part's rows; it finds nothing that another left behind in memory."""
    with ProcessPoolExecutor(1, mp.get_context("spawn")) as process:
        return process.submit(_rows_alone, part, quick).result()


def rows_of(part: str, *, quick: bool) -> list[Row]:
    """Return a part's rows, measured in this process."""
    module = importlib.import_module(f"benchmarks.parts.{part}")
    rows: list[Row] = module.rows(module.QUICK if quick else module.FULL)
    return rows


def _rows_alone(part: str, quick: bool) -> list[Row]:
    keep_freed_memory()  # as both of the product's processes do at their start; the baselines have it too
    return rows_of(part, quick=quick)
