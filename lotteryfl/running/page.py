"""The page's process beside a coordinator: told what is new without ever waiting for it."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from lotteryfl.common.telemetry.logs import OWN_WORD
from lotteryfl.common.text import printable
from lotteryfl.feed import News, packed
from lotteryfl.protos import lotteryfl_pb2 as pb

_EVERY = 1.0
"""Seconds between two messages, at least."""

_TELLING = 0.02
"""Share of the coordinator's time in which what workers are at may be found out: with many that takes long."""

_STOP_SECONDS = 5.0
_MOST_LINE = 500


class ShownPage:
    """A page about one run. Its death is said in a line, and is nothing to the run."""

    def __init__(
        self, run: Path, options: Sequence[str], fleet: Callable[[], Awaitable[pb.Fleet]], note: Callable[[str], None]
    ) -> None:
        """Set what is shown.

        Args:
            run: the run's directory.
            options: of `lotteryfl dashboard`: where, and to whom.
            fleet: finds out what the workers are at.
            note: is told where the page is, and when it has ended.
        """
        self._run = run
        self._options = options
        self._fleet = fleet
        self._note = note
        self._status: pb.RunStatus | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def unread(self) -> int:
        """Bytes that were written for the page and are not on their way to it: of one message, at most."""
        pipe = self._process.stdin if self._process else None
        return pipe.transport.get_write_buffer_size() if pipe else 0

    def show(self, status: pb.RunStatus) -> None:
        """Take note of where the run stands; the page is told within a second."""
        self._status = status

    @contextlib.asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Show the page while the block runs; in the end it is told how the run has ended."""
        try:
            self._process = process = await self._start()
        except OSError as error:
            self._note(f"the page cannot be started: {error.strerror}; the run goes on without it")
            yield
            return
        tasks = [asyncio.create_task(self._tell(process)), asyncio.create_task(self._listen(process))]
        try:
            yield
            await self._tell_once(process)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await _end(process)

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # a folder named lotteryfl where the user stands is not ours
            "-m",
            "lotteryfl.dashboard",
            str(self._run),
            "--fed",
            *self._options,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C at the terminal is the run's to handle
        )

    async def _tell(self, process: asyncio.subprocess.Process) -> None:
        while process.returncode is None:
            begin = time.monotonic()
            await self._tell_once(process)
            taken = time.monotonic() - begin
            await asyncio.sleep(max(_EVERY, taken / _TELLING))

    async def _tell_once(self, process: asyncio.subprocess.Process) -> None:
        """Write what is new, if the page has read what was written before: nobody waits for it."""
        pipe, status = process.stdin, self._status
        if pipe is None or status is None or pipe.is_closing() or self.unread:
            return
        pipe.write(packed(News(status, await self._fleet())))

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Pass on where the page is; say why it has ended."""
        if process.stdout is None:
            return
        last = ""
        with contextlib.suppress(ValueError, OSError):  # a line beyond all bounds
            async for line in process.stdout:
                last = printable(line.decode(errors="replace").strip())[:_MOST_LINE] or last
                if last.startswith("page: "):
                    self._note(last)
        code = await process.wait()
        why = last.removeprefix(OWN_WORD) if last.startswith(OWN_WORD) else _how(code)
        self._note(f"the page has ended: {why}; the run goes on without it")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Let the page show the end, and wait for its own; not for long."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.communicate()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _how(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"exit code {code}"
