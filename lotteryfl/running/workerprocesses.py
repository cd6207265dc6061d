"""Worker processes on this machine: started, watched, started again when they die, and stopped in the end."""

import asyncio
import contextlib
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from lotteryfl.common.errors import LotteryFLError, TaskVersionError
from lotteryfl.common.telemetry.logs import OWN_WORD
from lotteryfl.exitcodes import INTERRUPTED

STOP_SECONDS = 10.0
_BY_ITSELF = (LotteryFLError.exit_code, TaskVersionError.exit_code)
MOST_RESTARTS = 10
"""How often a worker is started again without `_progress` in between: a client whose work kills it does so
`max_attempts` times."""


class Ended(NamedTuple):
    """How a worker has ended for good."""

    code: int
    """Its exit code; below 0, the signal that ended it."""
    reason: str


class WorkerProcesses(ABC):
    """Some `lotteryfl work` processes by name."""

    def __init__(self, note: Callable[[str], None]) -> None:
        """Set who is told of every worker that dies."""
        self._note = note
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._watches: dict[str, asyncio.Task[Ended]] = {}

    # -- what differs

    @abstractmethod
    async def _start(self, name: str) -> asyncio.subprocess.Process:
        """Start a worker's process."""

    @abstractmethod
    async def _last_line(self, name: str) -> str:
        """Return the last line that a worker's process has written which has ended; empty: it said nothing."""

    @abstractmethod
    def _progress(self, name: str) -> int:
        """Return a number that changes when a worker's restarts are to be counted anew."""

    @abstractmethod
    def _log_of(self, name: str) -> str:
        """Return where a worker's lines are, as a message names it; empty: they have been seen."""

    def _is_wanted(self, name: str) -> bool:  # noqa: ARG002 - here all are
        """Tell whether a worker that has died is to be started again."""
        return True

    # -- what does not

    @contextlib.asynccontextmanager
    async def _kept(self) -> AsyncIterator[None]:
        """Leave no process behind: those that still run at the block's end are stopped."""
        try:
            yield
        finally:
            await self._unwatched()
            for process in self._running():
                process.terminate()
            try:
                await self._wait()
            finally:
                for process in self._running():
                    process.kill()

    async def _add(self, name: str) -> None:
        """Start a worker, and again whenever it dies."""
        self._processes[name] = await self._start(name)
        self._watches[name] = asyncio.create_task(self._watch(name))

    async def _all_ended(self) -> dict[str, Ended]:
        """Wait until every worker has ended, also those that are added meanwhile; return how."""
        while running := [watch for watch in self._watches.values() if not watch.done()]:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        return {name: watch.result() for name, watch in self._watches.items()}

    async def _watch(self, name: str) -> Ended:
        """Start a worker again whenever it dies, within bounds; return why it has ended for good."""
        restarts, progress = 0, self._progress(name)
        while True:
            code = await self._processes[name].wait()
            last = await self._last_line(name)
            reason = _reason(code, last)
            if self._progress(name) != progress:
                restarts, progress = 0, self._progress(name)
            if restarts == MOST_RESTARTS or not has_died(code, last) or not self._is_wanted(name):
                return Ended(code, reason)
            restarts += 1
            log = self._log_of(name)
            self._note(f"{name} has died and is started again: {reason}{f' (log: {log})' if log else ''}")
            try:
                self._processes[name] = await self._start(name)
            except OSError as error:
                return Ended(code, f"{reason}, and it cannot be started again: {error.strerror}")

    async def _unwatched(self) -> None:
        """Let nobody be started again."""
        for watch in self._watches.values():
            watch.cancel()
        await asyncio.gather(*self._watches.values(), return_exceptions=True)

    def _running(self) -> list[asyncio.subprocess.Process]:
        return [process for process in self._processes.values() if process.returncode is None]

    async def _wait(self) -> None:
        if running := self._running():
            await asyncio.wait([asyncio.create_task(p.wait()) for p in running], timeout=STOP_SECONDS)


async def start_worker(
    arguments: Sequence[str], environment: Mapping[str, str], **streams: Any
) -> asyncio.subprocess.Process:
    """Start the program, in a session of its own: a Ctrl-C at the terminal is ours to handle.

    Args:
        arguments: of the program.
        environment: all of it.
        streams: stdout, stderr and file descriptors to inherit, as `asyncio.create_subprocess_exec` takes them.
    """
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # a folder named lotteryfl where the user stands is not ours
        "-m",
        "lotteryfl",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        env={**environment, "PYTHONUNBUFFERED": "1"},
        **streams,
    )


def named_together(ended: Mapping[str, Ended]) -> str:
    """Return why workers have ended, each reason once."""
    names_by_reason: dict[str, list[str]] = {}
    for name, (_, reason) in ended.items():
        names_by_reason.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in names_by_reason.items())


def has_died(code: int, last: str) -> bool:
    """Tell whether a worker was ended by something else than its own decision, or a wish from outside."""
    by_itself = code in _BY_ITSELF and last.startswith(OWN_WORD)
    return not by_itself and code not in (0, 2, INTERRUPTED)


def _reason(code: int, last: str) -> str:
    if code < 0:
        return f"ended by signal {-code}"
    return last.removeprefix(OWN_WORD) if last.startswith(OWN_WORD) else f"exit code {code}: {last}"
