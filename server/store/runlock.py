"""Who drives a run: one process at a time, which holds the lock of its folder."""

import fcntl
import time
from pathlib import Path
from typing import IO

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.privatefiles import private

LOCK = "run.lock"
"""Its file, which says nothing else."""

_PATIENCE_SECONDS, _AGAIN_SECONDS = 0.5, 0.02
"""Who only looks whether somebody holds it has it for an instant: that is waited for."""


def lock(path: Path) -> IO[bytes]:
    """Hold a run directory until the file is closed.

    Raises:
        LotteryFLError: another process holds it.
    """
    handle = open(path / LOCK, "wb", opener=private)  # noqa: SIM115 - closed by whoever holds the lock
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if isinstance(error, BlockingIOError) and time.monotonic() < deadline:
                time.sleep(_AGAIN_SECONDS)
                continue
            handle.close()
            raise LotteryFLError(f"{path}: another process is running this run") from error
        return handle


def is_being_run(path: Path) -> bool:
    """Tell whether a process holds the lock of the run in this folder."""
    try:
        with (path / LOCK).open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for an instant: closing lets go of it
    except BlockingIOError:
        return True
    except OSError:  # nobody ever ran it, or it cannot be told
        return False
    return False
