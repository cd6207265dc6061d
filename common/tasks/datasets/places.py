"""Where data sets lie on a machine."""

import os
from collections.abc import Sequence
from pathlib import Path

from lotteryfl.common.errors import TaskError


def cache_dir() -> Path:
    """Return the folder in the user's cache in which data sets are looked for."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lotteryfl"


def find_folder(task: str, data_dir: str, usual: Sequence[Path], remedy: str) -> Path:
    """Return `task.data_dir`, or the first of the usual folders that exists.

    Raises:
        TaskError: there is none; the message ends with the remedy.
    """
    if data_dir:
        return Path(data_dir).expanduser()
    for folder in usual:
        if folder.is_dir():
            return folder
    raise TaskError(f"task {task}: no data in {', '.join(map(str, usual))}; {remedy}")


def unreadable(path: Path, error: OSError, published: str) -> TaskError:
    """Return what to say of a file or folder that cannot be read; of one that is not there, also what it is from."""
    reason = f"{path}: {error.strerror or error}"
    return TaskError(f"{reason}; it comes with {published}" if isinstance(error, FileNotFoundError) else reason)


def put_in_place(new: Path, target: Path) -> Path:
    """Rename a folder that is whole to where it is looked for, and return that; it may be there already.

    Raises:
        OSError: it cannot be renamed.
    """
    try:
        new.rename(target)
    except OSError:
        if not target.is_dir():  # there it is where another process was faster
            raise
    return target
