"""Worker processes on this machine, for `lotteryfl run`: started, watched, and stopped with it."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from lotteryfl.common.errors import LotteryFLError, TaskVersionError
from lotteryfl.common.privatefiles import PRIVATE_FOLDER, private
from lotteryfl.exitcodes import INTERRUPTED
from lotteryfl.running.environment import VARIABLES

_STOP_SECONDS = 10.0
_OWN_WORD = "lotteryfl: "
"""What the last line of a worker begins with that has ended with a reason of its own."""
_BY_ITSELF = (LotteryFLError.exit_code, TaskVersionError.exit_code)
MOST_RESTARTS = 10
"""How often each worker is started again within a round: a client whose work kills it does so `max_attempts` times."""


class LocalWorkers:
    """Some `lotteryfl work` processes, each with a log file of its own."""

    def __init__(self, logs: Path, round_: Callable[[], int], note: Callable[[str], None]) -> None:
        """Set what they are watched by.

        Args:
            logs: folder of their logs.
            round_: says which round is open.
            note: is told of every worker that dies.
        """
        self._logs = logs
        self._round = round_
        self._note = note
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._watches: dict[str, asyncio.Task[str]] = {}

    @contextlib.asynccontextmanager
    async def started(self, count: int, arguments: Sequence[str]) -> AsyncIterator[None]:
        """Run `count` workers with these arguments while the block runs; one that dies is started again.

        After its end they have time to leave by themselves; when it is left by an exception they are stopped.
        """
        self._logs.mkdir(PRIVATE_FOLDER, exist_ok=True)
        try:
            for number in range(1, count + 1):
                name = f"worker-{number}"
                self._processes[name] = await self._start(name, arguments)
                self._watches[name] = asyncio.create_task(self._watch(name, arguments))
            yield
            await self._unwatched()
            await self._wait()
        finally:
            await self._unwatched()
            for process in self._running():
                process.terminate()
            try:
                await self._wait()
            finally:
                for process in self._running():
                    process.kill()

    async def all_ended(self) -> str:
        """Return when every worker has ended: why, by the last line of their logs."""
        names_by_reason: dict[str, list[str]] = {}
        for name, watch in self._watches.items():
            reason = await asyncio.shield(watch)
            names_by_reason.setdefault(reason, []).append(name)
        reasons = (f"{', '.join(names)}: {reason}" for reason, names in names_by_reason.items())
        return f"{'; '.join(reasons)} (logs in {self._logs})"

    async def _watch(self, name: str, arguments: Sequence[str]) -> str:
        """Start a worker again whenever it dies, within bounds; return why it has ended for good."""
        restarts, round_ = 0, self._round()
        while True:
            code = await self._processes[name].wait()
            reason = self._reason(name, code)
            if self._round() != round_:
                restarts, round_ = 0, self._round()
            if restarts == MOST_RESTARTS or not self._has_died(name, code):
                return reason
            restarts += 1
            self._note(f"{name} has died and is started again: {reason} (log: {self._log(name)})")
            self._processes[name] = await self._start(name, arguments)

    def _has_died(self, name: str, code: int) -> bool:
        """Tell whether a worker was ended by something else than its own decision, or a wish from outside."""
        by_itself = code in _BY_ITSELF and self._last_line(name).startswith(_OWN_WORD)
        return not by_itself and code not in (0, 2, INTERRUPTED)

    async def _unwatched(self) -> None:
        """Let nobody be started again."""
        for watch in self._watches.values():
            watch.cancel()
        await asyncio.gather(*self._watches.values(), return_exceptions=True)

    async def _start(self, name: str, arguments: Sequence[str]) -> asyncio.subprocess.Process:
        with open(self._log(name), "ab", opener=private) as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # a folder named lotteryfl where the user stands is not ours
                "-m",
                "lotteryfl",
                "work",
                f"--name={name}",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C at the terminal is the coordinator's to handle
                env=_environment(),
            )

    def _running(self) -> list[asyncio.subprocess.Process]:
        return [process for process in self._processes.values() if process.returncode is None]

    async def _wait(self) -> None:
        if running := self._running():
            await asyncio.wait([asyncio.create_task(p.wait()) for p in running], timeout=_STOP_SECONDS)

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _reason(self, name: str, code: int) -> str:
        if code < 0:
            return f"ended by signal {-code}"
        last = self._last_line(name)
        return last.removeprefix(_OWN_WORD) if last.startswith(_OWN_WORD) else f"exit code {code}: {last}"

    def _last_line(self, name: str) -> str:
        lines = self._log(name).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def _environment() -> dict[str, str]:
    """Return ours, without what says in it who we are to another coordinator."""
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return inherited | {"PYTHONUNBUFFERED": "1"}
