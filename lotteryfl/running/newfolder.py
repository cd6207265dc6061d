"""Folders for runs that nobody gave one: each its own, also of two that begin in the same second."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path

from lotteryfl.common.disk.privatefiles import PRIVATE_FOLDER
from lotteryfl.common.errors import LotteryFLError


@contextmanager
def new_folder(parent: Path, name: str) -> Iterator[Path]:
    """Make a folder called NAME-TIME, or NAME-TIME-2 and so on where there is one; if it stays empty it goes again.

    Raises:
        LotteryFLError: it cannot be made.
    """
    path = parent / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    try:
        path = _make_first_free(path)
    except OSError as error:
        raise LotteryFLError(f"{path}: cannot be made: {error.strerror or error}") from error
    try:
        yield path
    finally:
        with suppress(OSError):
            path.rmdir()


def _make_first_free(path: Path) -> Path:
    candidate = path
    for number in count(2):
        with suppress(FileExistsError):
            candidate.mkdir(PRIVATE_FOLDER, parents=True)
            break
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
