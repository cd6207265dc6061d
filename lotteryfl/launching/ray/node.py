"""What is asked of a node by a task that runs there."""

import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

from lotteryfl.common.disk.privatefiles import PRIVATE_FOLDER
from lotteryfl.common.errors import LotteryFLError

CHUNK = 4 << 20
_MOST_LOG = 4 << 20
"""Bytes of a log that are gathered: its last."""


def version() -> str:
    """Return which version of the program is installed here."""
    return metadata.version("lotteryfl")


def log_folder(launch: str) -> Path:
    """Return the folder of a launch's logs on this node, for its owner alone; it is made where there is none.

    Raises:
        LotteryFLError: it cannot be made, or is another's.
    """
    folder = _folder(launch)
    try:
        folder.mkdir(PRIVATE_FOLDER, exist_ok=True)
        if folder.stat(follow_symlinks=False).st_uid != os.getuid():
            raise LotteryFLError(f"{folder}: is another user's")
    except OSError as error:
        raise LotteryFLError(f"{folder}: cannot be made: {error.strerror}") from error
    return folder


def logs(launch: str) -> dict[str, bytes]:
    """Return what there is of a launch's logs here, by the files' names."""
    return {file.name: _tail(file) for file in sorted(_folder(launch).glob("*.log"))}


def remove_logs(launch: str) -> None:
    """Remove the folder of a launch's logs."""
    shutil.rmtree(_folder(launch), ignore_errors=True)


def listing(run_dir: str) -> dict[str, int]:
    """Return the sizes of a run directory's files, by their names within it."""
    root = Path(run_dir)
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(root)): path.stat().st_size for path in sorted(files)}


def part(run_dir: str, name: str, offset: int) -> bytes:
    """Return what a file of a run directory holds from a byte on, but not more than `CHUNK`."""
    with (Path(run_dir) / name).open("rb") as file:
        file.seek(offset)
        return file.read(CHUNK)


def _folder(launch: str) -> Path:
    return Path(tempfile.gettempdir()) / launch


def _tail(file: Path) -> bytes:
    with file.open("rb") as opened:
        opened.seek(max(0, os.fstat(opened.fileno()).st_size - _MOST_LOG))
        return opened.read()
