"""Early write-back: the disk gets to work on a file that is still being written, and fsync has less to wait for."""

import ctypes

_WRITE = 2
"""SYNC_FILE_RANGE_WRITE of Linux's fcntl.h: begin, and wait for nothing."""


def begin_write_back(descriptor: int) -> None:
    """Have what was written to a file so far go to its disk; that it is there one day, fsync alone says.

    Nothing happens where the system has no call for it.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), _WRITE)  # 0 bytes: up to the file's end


def _found() -> "ctypes._NamedFuncPointer | None":
    try:
        return ctypes.CDLL(None).sync_file_range
    except (AttributeError, OSError, TypeError):  # no such function; no such library; Windows wants a name
        return None


_sync_file_range = _found()
