"""What keeps a launch by ssh, in a process of its own: the coordinator, the connections, and what works over them.

All that it starts on hosts is tied to its pipes: when it ends, however it does, nothing of that stays. Who has started
it holds its standard input: closed before the word `STAY` was written there, it ends the launch.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.telemetry.logs import OWN_WORD
from lotteryfl.common.text import printable
from lotteryfl.exitcodes import INTERRUPTED, LEFT_OUT
from lotteryfl.launching.folder import LaunchFolder
from lotteryfl.launching.launcher import Request, Stage
from lotteryfl.launching.ssh.host import Host
from lotteryfl.launching.ssh.kept import Kept, KeptFiles
from lotteryfl.launching.ssh.places import Places
from lotteryfl.launching.ssh.processes import last_line, size, started
from lotteryfl.stopsignals import stop_signals

STAY = "stay"

_LEAVING_SECONDS = 60.0
"""For how long workers are waited for that hear that the run is over."""

_COORDINATOR_SECONDS = 30.0
_LISTENING_POLL_SECONDS = 0.1


class Keeper:
    """Keeps one launch, from the first connection to the last."""

    def __init__(self, run_dir: Path) -> None:
        """Read what is to be launched.

        Raises:
            LotteryFLError: its record is damaged.
        """
        folder = LaunchFolder(run_dir)
        self._places = Places(Request.of_record(run_dir, folder))
        self._files = KeptFiles(folder.path)
        self._kept = Kept(why="the hosts are connected")
        self._log = folder.path / "coordinator.log"
        self._hosts = [
            Host(calls, folder.logs / f"{calls.host.name}.log", self._tell) for calls in self._places.calls()
        ]

    async def keep(self) -> None:
        """Do it all, and write down how it ends."""
        with self._files.hold(os.getpid()):
            self._write(self._kept)
            try:
                code, why = await self._run()
            except LotteryFLError as error:
                code, why = error.exit_code, str(error)
            except asyncio.CancelledError:
                code, why = INTERRUPTED, "the launch was taken down"
            self._write(self._kept.model_copy(update={"stage": Stage.ENDED, "code": code, "why": printable(why)}))

    async def _run(self) -> tuple[int, str]:
        """Run the run; return the coordinator's exit code, and why it is none of a finished run."""
        async with AsyncExitStack() as opened:
            opened.push_async_callback(self._close_all)
            await self._connect_all()
            begin = size(self._log)
            coordinator = await opened.enter_async_context(
                started(self._places.serve(), self._log, _COORDINATOR_SECONDS)
            )
            opened.callback(_terminate, coordinator)
            if not await self._listens(coordinator):
                return self._outcome(coordinator, begin)
            self._write(self._kept.model_copy(update={"stage": Stage.RUNNING, "why": ""}))
            working = [asyncio.create_task(self._work(host)) for host in self._hosts]
            opened.push_async_callback(_cancelled, working)
            why = await self._until_over(coordinator, working)
            if coordinator.returncode is None:
                return LotteryFLError.exit_code, why
            return self._outcome(coordinator, begin)

    def _outcome(self, coordinator: asyncio.subprocess.Process, begin: int) -> tuple[int, str]:
        code = coordinator.returncode or 0
        return code, "" if code in (0, LEFT_OUT) else last_line(self._log, begin).removeprefix(OWN_WORD)

    async def _connect_all(self) -> None:
        """Connect every host; what is wrong with any is said before anything starts."""
        outcomes = await asyncio.gather(*(host.connect() for host in self._hosts), return_exceptions=True)
        failed = [outcome for outcome in outcomes if outcome is not None]
        for error in failed:
            if not isinstance(error, LotteryFLError):
                raise error
        if failed:
            raise LotteryFLError("; ".join(map(str, failed)))

    async def _close_all(self) -> None:
        await asyncio.gather(*(host.close() for host in self._hosts))

    async def _listens(self, coordinator: asyncio.subprocess.Process) -> bool:
        """Wait until the coordinator listens; False: it has ended before."""
        while coordinator.returncode is None and not self._places.coordinator.is_socket():
            await asyncio.sleep(_LISTENING_POLL_SECONDS)
        return coordinator.returncode is None

    async def _until_over(self, coordinator: asyncio.subprocess.Process, working: Sequence["asyncio.Task[str]"]) -> str:
        """Wait until the run is over, or no host is left; return why none is."""
        ended = asyncio.create_task(coordinator.wait())
        worked = asyncio.gather(*working)
        try:
            await asyncio.wait((ended, worked), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                if all(reasons := worked.result()):
                    return f"no host is left: {'; '.join(reasons)}"
                await ended  # some have left because the run is over: the coordinator has its last word to write
            with suppress(TimeoutError):
                async with asyncio.timeout(_LEAVING_SECONDS):
                    await asyncio.shield(worked)
            return ""
        finally:
            ended.cancel()

    async def _work(self, host: Host) -> str:
        """Have a host work; return why it has been given up, '': it was not."""
        try:
            await host.work()
        except LotteryFLError as error:
            self._tell(f"{error}; it is given up")
            return str(error)
        return ""

    def _tell(self, line: str) -> None:
        self._write(self._kept.with_news(printable(line)))

    def _write(self, kept: Kept) -> None:
        self._kept = kept
        self._files.write(kept)


def keep(run_dir: Path) -> None:
    """Keep the launch of a run until it is over, a signal comes, or whoever has started this process is gone."""
    keeper = Keeper(run_dir)

    async def whole() -> None:
        loop, is_to_end = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGINT, *stop_signals()):
            loop.add_signal_handler(number, is_to_end.set)
        threading.Thread(target=_heed_input, args=(loop, is_to_end.set), name="starter", daemon=True).start()
        keeping, ending = asyncio.create_task(keeper.keep()), asyncio.create_task(is_to_end.wait())
        await asyncio.wait((keeping, ending), return_when=asyncio.FIRST_COMPLETED)
        keeping.cancel()  # once, whatever else comes: it takes its time
        ending.cancel()
        with suppress(asyncio.CancelledError):
            await keeping

    asyncio.run(whole())


def _heed_input(loop: asyncio.AbstractEventLoop, end: Callable[[], object]) -> None:
    """Have the launch ended when its starter is gone, unless that has said that this one is to stay."""
    if sys.stdin.read().strip() != STAY:
        with suppress(RuntimeError):  # it has ended by itself meanwhile
            loop.call_soon_threadsafe(end)


def _terminate(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()


async def _cancelled(tasks: Sequence["asyncio.Task[str]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
