"""Keeps glibc's malloc from fetching fresh pages for every large buffer of a stream."""

import ctypes

# Parameter numbers of malloc.h, and values; mallopt is a contract of glibc alone.
_SETTINGS = {
    -3: 32 << 20,  # M_MMAP_THRESHOLD: smaller blocks come from the heap
    -1: 128 << 20,  # M_TRIM_THRESHOLD: this much may lie free at the heap's end
    -8: 1,  # M_ARENA_MAX: one heap, so that a thread finds what another has freed
}


def keep_freed_memory() -> bool:
    """Let malloc keep what is freed, up to 128 MiB, and use it again for blocks of up to 32 MiB.

    By default the buffers of a stream go back to the kernel when they are freed, and the next ones cost a page
    fault for each 4 KiB, several times as much as copying them; and every thread has a heap of its own, in which
    others' buffers are of no use. Wanted once, at a process's start.

    Returns:
        Whether this process's C library knows of it; where not (musl, macOS, Windows), nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function; no such library; Windows wants a name
        return False
    return all(mallopt(parameter, value) for parameter, value in _SETTINGS.items())
