"""Folders on disk: a name is there after a power cut only when the folder that it is in was synced."""

import os
from contextlib import suppress
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on disk: what was made, renamed and deleted there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_way_to(path: Path) -> None:
    """Put a path's own name on disk, and those of all folders on the way to it.

    Of all, up to where its file system begins: a process that was killed may have made any of them. One that may be
    entered and not read was not made by us.
    """
    for folder in path.resolve().parents:
        with suppress(PermissionError):
            sync_folder(folder)
        if folder.is_mount():
            break
