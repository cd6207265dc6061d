"""Whether a file is another one than before: a look that takes microseconds."""

from pathlib import Path
from typing import NamedTuple


class FileVersion(NamedTuple):
    """What another content changes."""

    modified: int
    """In nanoseconds."""
    size: int
    inode: int


def file_version(path: Path) -> FileVersion | None:
    """Return the version of a file; None: there is no such file, or it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return FileVersion(status.st_mtime_ns, status.st_size, status.st_ino)
