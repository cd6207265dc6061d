"""Files and folders for their owner alone, from their first moment on: whoever reads a run knows what it knows."""

import os
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
SHARED_FILE = 0o666
"""Less the umask of who makes it, as files are that belong to no run."""

_OTHERS = 0o077


def private(path: str, flags: int) -> int:
    """Open a file, which is its owner's alone if it is made now: an `opener` for `open`."""
    return os.open(path, flags, PRIVATE_FILE)


def is_open(path: Path) -> bool:
    """Tell whether others may read a file, or one in a folder that they may enter; not one that is gone by now."""
    try:
        if not path.stat().st_mode & _OTHERS:
            return False
        return not path.is_dir() or any(map(is_open, path.iterdir()))
    except FileNotFoundError:
        return False
