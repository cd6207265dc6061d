"""Worker processes on this machine, for `lotteryfl run`: started, watched, and stopped with it."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from lotteryfl.common.privatefiles import PRIVATE_FOLDER, private
from lotteryfl.running.environment import VARIABLES

_STOP_SECONDS = 10.0


class LocalWorkers:
    """Some `lotteryfl work` processes, each with a log file of its own."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    @contextlib.asynccontextmanager
    async def started(self, count: int, arguments: Sequence[str]) -> AsyncIterator[None]:
        """Run `count` workers with these arguments while the block runs.

        After its end they have time to leave by themselves; when it is left by an exception they are stopped.
        """
        self._logs.mkdir(PRIVATE_FOLDER, exist_ok=True)
        try:
            for number in range(1, count + 1):
                name = f"worker-{number}"
                self._processes[name] = await self._start(name, arguments)
            yield
            await self._wait()
        finally:
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
        for name, process in self._processes.items():
            reason = self._reason(name, await process.wait())
            names_by_reason.setdefault(reason, []).append(name)
        reasons = (f"{', '.join(names)}: {reason}" for reason, names in names_by_reason.items())
        return f"{'; '.join(reasons)} (logs in {self._logs})"

    async def _start(self, name: str, arguments: Sequence[str]) -> asyncio.subprocess.Process:
        with open(self._log(name), "ab", opener=private) as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # a folder named client or common where the user stands is not ours
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
        lines = self._log(name).read_text(errors="replace").strip().splitlines()
        last = lines[-1] if lines else "it said nothing"
        return last.removeprefix("lotteryfl: ") if code == 1 else f"exit code {code}: {last}"


def _environment() -> dict[str, str]:
    """Return ours, without what says in it who we are to another coordinator."""
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return inherited | {"PYTHONUNBUFFERED": "1"}
