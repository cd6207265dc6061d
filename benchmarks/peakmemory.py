"""How much memory work takes at its peak, seen from another process, on Linux.

Counted is anonymous memory. Pages of mapped files are not: the kernel drops them at will.
"""

import ctypes
import gc
import multiprocessing as mp
import os
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PERIOD = 0.001

MIB = 1 << 20


class MemoryWatch:
    """Looks at a process every millisecond while the block runs."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.before = self.peak = anonymous_memory(pid)

    @property
    def extra(self) -> int:
        """Bytes at the peak beyond those at the start; a page where none was seen, so that ratios can be taken."""
        return max(self.peak - self.before, _PAGE)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:
            self._look()  # on a busy machine the thread may have come too late to see the end

    def _watch(self) -> None:
        while not self._stop.wait(_PERIOD):
            self._look()

    def _look(self) -> None:
        self.peak = max(self.peak, anonymous_memory(self._pid))


def anonymous_memory(pid: int) -> int:
    """Return the bytes of a process that are in memory and belong to no file."""
    _, resident, of_files, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(resident) - int(of_files)) * _PAGE


def settle_memory() -> None:
    """Give back what this process has freed, so that what it takes next is seen."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def extra_memory(prepare: Callable[[], Callable[[], object]]) -> int:
    """Return the bytes that work takes at its peak, in a process of its own.

    Args:
        prepare: makes what the work needs, and returns the work; importable, for the other process.
    """
    spawn = mp.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_work, args=(prepare, there))
    process.start()
    there.close()
    try:
        here.recv()
        with MemoryWatch(process.pid or 0) as watch:
            here.send("go")
            here.recv()
        here.send("seen")
    finally:
        process.join()
    return watch.extra


def _work(prepare: Callable[[], Callable[[], object]], parent: Connection) -> None:
    work = prepare()
    settle_memory()
    parent.send("ready")
    parent.recv()
    result = work()
    parent.send("done")
    parent.recv()
    del result
