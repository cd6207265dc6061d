"""Processes that a keeper starts: each with a log, and ended when its standard input is closed, or by signals."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from lotteryfl.common.disk.privatefiles import private
from lotteryfl.common.telemetry import logs
from lotteryfl.running.environment import inherited

_MOST_LINE = 1000


@contextlib.asynccontextmanager
async def started(
    command: Sequence[str], log: Path, seconds: float, *, reads_output: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command while the block runs; then its input is closed, and it is killed if that does not end it.

    Args:
        command: what is called.
        log: where it writes to, after what is there already.
        seconds: for which its end is waited for.
        reads_output: its standard output is the block's to read; what it says as an error goes to the log all the same.
    """
    with open(log, "ab", opener=private) as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if reads_output else file,
            stderr=file,
            env=inherited(),
        )
    try:
        yield process
    finally:
        await asyncio.shield(_end(process, seconds))


async def _end(process: asyncio.subprocess.Process, seconds: float) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def last_line(log: Path, begin: int = 0) -> str:
    """Return the last line of a log from a byte of it on, without its full stop; it may be somebody else's text.

    Args:
        log: the file.
        begin: what is before this was written earlier.
    """
    return logs.last_line(log, begin).strip()[:_MOST_LINE].rstrip(".") or "it said nothing"


def size(log: Path) -> int:
    """Return how long a log is by now."""
    try:
        return log.stat().st_size
    except FileNotFoundError:
        return 0
