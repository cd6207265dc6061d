"""The parts, each a module with `rows()`, and each measured in a fresh process."""

import importlib
import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor

from benchmarks.harness import Row
from lotteryfl.allocator import keep_freed_memory

PARTS = ("pruning", "training", "codec", "coding", "traffic", "aggregation", "stream", "memory", "round", "fleet")


def subject_of(part: str) -> str:
    """Return what a part measures."""
    return (importlib.import_module(f"benchmarks.{part}").__doc__ or "").strip()


def measured(part: str) -> list[Row]:
    """Return a part's rows; it finds nothing that another left behind in memory."""
    with ProcessPoolExecutor(1, mp.get_context("spawn")) as process:
        return process.submit(_rows, part).result()


def _rows(part: str) -> list[Row]:
    keep_freed_memory()  # as both of the product's processes do at their start; the baselines have it too
    rows: list[Row] = importlib.import_module(f"benchmarks.{part}").rows()
    return rows
