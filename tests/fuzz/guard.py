"""What every input is held to: only typed errors come out, little memory is asked for, little time is taken."""

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lotteryfl.common.errors import LotteryFLError

Read = Callable[[bytes], None]
"""A target: reads bytes as somebody else may have sent them; what it asserts must hold for all of them."""

MOST_BYTES = 64 << 20
"""Memory that an input may ask for, beyond what the process has."""

MOST_SECONDS = 1.0
"""Processor time that an input may take."""


class TooSlowError(Exception):
    """An input took longer than it may."""


def hold(read: Read, data: bytes) -> None:
    """Read an input; a `LotteryFLError` is an answer, everything else comes out as a finding."""
    with suppress(LotteryFLError):
        read(data)


def hold_timed(read: Read, data: bytes) -> None:
    """Read an input as `hold` does, and see how long it takes."""
    start = time.process_time()
    hold(read, data)
    if (seconds := time.process_time() - start) > MOST_SECONDS:
        raise TooSlowError(f"{seconds:.1f} s for {len(data)} bytes")


@contextmanager
def memory_capped() -> Iterator[None]:
    """Let the kernel refuse the block memory beyond `MOST_BYTES`: also what torch and numpy reserve and never touch."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    cap_memory()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def cap_memory() -> None:
    """Let the kernel refuse memory beyond `MOST_BYTES` more than the process has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (pages * resource.getpagesize() + MOST_BYTES, hard))
