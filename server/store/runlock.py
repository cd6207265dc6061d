"""Who drives a run: one process at a time, which holds the lock of its folder."""

from pathlib import Path
from typing import IO

from lotteryfl.common.disk.heldfile import hold, is_held

LOCK = "run.lock"
"""Its file, which says nothing else."""


def lock(path: Path) -> IO[bytes]:
    """Hold a run directory until the file is closed.

    Raises:
        LotteryFLError: another process holds it.
    """
    return hold(path / LOCK, f"{path}: another process is running this run")


def is_being_run(path: Path) -> bool:
    """Tell whether a process holds the lock of the run in this folder."""
    try:
        return is_held(path / LOCK)
    except OSError:  # it cannot be told
        return False
