"""Files that a process holds for as long as it lives: who finds one free knows that its holder has ended."""

import fcntl
import time
from pathlib import Path
from typing import IO

from lotteryfl.common.disk.privatefiles import private
from lotteryfl.common.errors import LotteryFLError

_PATIENCE_SECONDS, _AGAIN_SECONDS = 0.5, 0.02
"""Who only looks whether somebody holds it has it for an instant: that is waited for."""


def hold(path: Path, otherwise: str) -> IO[bytes]:
    """Hold a file, which is made where it is missing and else left as it is, until what is returned is closed.

    Args:
        path: the file; a process that inherits it holds it too.
        otherwise: what is said where another process holds it.

    Raises:
        LotteryFLError: another process does, for longer than who only looks.
    """
    handle = open(path, "ab", buffering=0, opener=private)  # noqa: SIM115 - closed by whoever holds it
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if isinstance(error, BlockingIOError) and time.monotonic() < deadline:
                time.sleep(_AGAIN_SECONDS)
                continue
            handle.close()
            raise LotteryFLError(otherwise) from error
        return handle


def is_held(path: Path) -> bool:
    """Tell whether a process holds a file, if there is one.

    Raises:
        OSError: it cannot be told.
    """
    try:
        with path.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for an instant: closing lets go of it
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
