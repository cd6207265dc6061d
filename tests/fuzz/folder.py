"""A folder for files that targets read by name, gone with the process."""

import tempfile
from functools import cache
from pathlib import Path


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="lotteryfl-fuzz-")


def folder() -> Path:
    return Path(_folder().name)
