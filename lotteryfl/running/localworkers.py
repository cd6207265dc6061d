"""Worker processes on this machine, for `lotteryfl run`: started, watched, and stopped with it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from lotteryfl.common.disk.privatefiles import PRIVATE_FOLDER, private
from lotteryfl.common.prometheus.exposing import beside
from lotteryfl.common.telemetry.logs import last_line
from lotteryfl.running.device import Place
from lotteryfl.running.environment import inherited
from lotteryfl.running.workerprocesses import WorkerProcesses, named_together, start_worker


class LocalWorkers(WorkerProcesses):
    """Some `lotteryfl work` processes, each with a log file of its own."""

    def __init__(self, logs: Path, round_: Callable[[], int], note: Callable[[str], None], metrics: str = "") -> None:
        """Set what they are watched by.

        Args:
            logs: folder of their logs.
            round_: says which round is open: restarts are counted within one.
            note: is told of every worker that dies.
            metrics: HOST:PORT of the coordinator's metrics, after which the workers' are; empty: nobody has any.
        """
        super().__init__(note)
        self._metrics = metrics
        self._logs = logs
        self._round = round_
        self._arguments: Sequence[str] = ()
        self._places: dict[str, Place] = {}
        self._numbers: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def started(self, count: int, arguments: Sequence[str], places: Sequence[Place] = ()) -> AsyncIterator[None]:
        """Run `count` workers with these arguments while the block runs; one that dies is started again.

        After its end they have time to leave by themselves; when it is left by an exception they are stopped.

        Args:
            count: how many.
            arguments: of each, beside its name.
            places: over which they are spread, one after the other; none: they choose.
        """
        self._logs.mkdir(PRIVATE_FOLDER, exist_ok=True)
        self._arguments = arguments
        async with self._kept():
            for number in range(count):
                name = f"worker-{number + 1}"
                self._numbers[name] = number + 1
                if places:
                    self._places[name] = places[number % len(places)]
                await self._add(name)
            yield
            await self._unwatched()
            await self._wait()

    async def all_ended(self) -> str:
        """Return when every worker has ended: why, by the last line of their logs."""
        return f"{named_together(await self._all_ended())} (logs in {self._logs})"

    async def _start(self, name: str) -> asyncio.subprocess.Process:
        place = self._places.get(name)
        arguments = ["work", f"--name={name}", *self._arguments, *([f"--device={place.device}"] if place else [])]
        if self._metrics:
            arguments.append(f"--metrics={beside(self._metrics, self._numbers[name])}")
        with open(self._log(name), "ab", opener=private) as log:
            return await start_worker(arguments, _environment(place), stdout=log, stderr=log)

    async def _last_line(self, name: str) -> str:
        return last_line(self._log(name)) or "it said nothing"

    def _progress(self, name: str) -> int:  # noqa: ARG002 - the round is everybody's
        return self._round()

    def _log_of(self, name: str) -> str:
        return str(self._log(name))

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"


def _environment(place: Place | None) -> dict[str, str]:
    """Return ours, without what says in it who we are to another coordinator."""
    return {**inherited(), **(place.environment if place else {})}
