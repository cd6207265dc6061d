"""Keeps glibc's malloc from fetching fresh pages for every large buffer of a stream."""

import ctypes

# Parameter numbers of malloc.h; mallopt is a contract of glibc alone.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_MMAP_BYTES = 32 << 20
_TRIM_BYTES = 128 << 20


def keep_freed_memory() -> bool:
    """Let malloc serve blocks of up to 32 MiB from its heap, and keep up to 128 MiB that are free at its end.

    By default every buffer of a stream goes back to the kernel when it is freed, and the next one costs a page
    fault for each 4 KiB, several times as much as copying them. Wanted once, at a process's start.

    Returns:
        Whether this process's C library knows of it; where not (musl, macOS, Windows), nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function; no such library; Windows wants a name
        return False
    # Both: setting one fixes the other, which otherwise follows the largest buffer freed.
    return bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES))
