"""Early write-back: the disk gets to work on a file that is still being written, and fsync has less to wait for."""

import ctypes
import errno
import os

_WRITE = 2
"""SYNC_FILE_RANGE_WRITE of Linux's fcntl.h: begin, and wait for nothing."""

_FAILURES = {errno.EIO, errno.ENOSPC, errno.EDQUOT}


def begin_write_back(descriptor: int) -> None:
    """Have what was written to a file so far go to its disk; that it is there one day, fsync alone says.

    Nothing happens where the system, or the file's, has no call for it.

    Raises:
        OSError: the disk is full, or fails; fsync might not be told any more.
    """
    if _sync_file_range is None:
        return
    begun = _sync_file_range(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), _WRITE)  # 0 bytes: up to the file's end
    if begun != 0 and (error := ctypes.get_errno()) in _FAILURES:
        raise OSError(error, os.strerror(error))


def _found() -> "ctypes._NamedFuncPointer | None":
    try:
        return ctypes.CDLL(None, use_errno=True).sync_file_range
    except (AttributeError, OSError, TypeError):  # no such function; no such library; Windows wants a name
        return None


_sync_file_range = _found()
