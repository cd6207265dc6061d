"""A folder for files that targets read by name: in memory where the system has such a one, gone with the process."""

import tempfile
from functools import cache
from pathlib import Path


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own in it
    return tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="lotteryfl-fuzz-")


def folder() -> Path:
    return Path(_folder().name)
