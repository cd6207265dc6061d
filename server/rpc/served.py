"""A run while it is served: its coordinator in a thread of its own, and what those who serve it tell each other."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import ParamSpec, TypeVar

from lotteryfl.common.names import WorkerId
from lotteryfl.server.rounds.coordinator import Coordinator
from lotteryfl.server.rounds.recent import Recent
from lotteryfl.server.rpc.bell import Bell
from lotteryfl.server.store.rundir import RunDirectory

P = ParamSpec("P")
T = TypeVar("T")

_ANSWER_SECONDS = 5.0
"""For which who only looks waits for the coordinator's thread."""


LINGER_SECONDS = 5.0
"""The longest that who watches a run may ask questions when it has ended."""


class StorageError(Exception):
    """The run directory cannot be written or read: its disk is full, or fails."""


class ServedRun:
    """One run and its coordinator, which the calls, the uploads and the rounds have in common."""

    def __init__(self, run: RunDirectory, most_departed: int) -> None:
        """Take up a run.

        Args:
            run: whose lock this process holds.
            most_departed: how many workers that have left are remembered.

        Raises:
            ExperimentError: the strategy is unknown, or cannot keep what `[privacy]` promises.
        """
        self.run = run
        self.coordinator = Coordinator(run)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="coordinator")
        self.work = Bell()
        """Rings when there may be new work, or the run has ended: for the workers that wait."""
        self.changed = Bell()
        """Rings when the open round may be over or its work given out again: for the rounds."""
        self.news = Bell()
        """Rings after every change of the run's status: for observers."""
        self.arrived = Bell()
        """Rings when an assignment is with its worker: for what has time until workers are at work."""
        self.departed = Recent(most_departed)
        """The workers that leave: they were told that the run has ended, or handed their work back."""
        self.watchers = 0
        """Observers who wait for news, and have questions left when the run has ended."""
        self.driver: asyncio.Task[object] | None = None
        """What drives the rounds; who cancels it ends the process as a signal does."""
        self._storage_error: OSError | sqlite3.Error | None = None

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one of the coordinator's functions in its thread, which then knows what its caller is about."""
        loop, context = asyncio.get_running_loop(), copy_context()
        return await loop.run_in_executor(self._thread, lambda: context.run(function, *args, **kwargs))

    def post(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Have one of the coordinator's functions run in its thread, before all that is asked of it from now on.

        Nobody waits for it: it is one that only takes note. After the run's end nothing is noted any more.
        """
        with contextlib.suppress(RuntimeError):  # a call that was cut at the end cleans up
            self._thread.submit(function, *args, **kwargs)

    def answer(self, function: Callable[[], T]) -> T:
        """Run one of the coordinator's functions in its thread, for another thread than the loop's.

        Raises:
            TimeoutError: the coordinator's thread has had no time for it.
            RuntimeError: it has ended.
            CancelledError: it has ended meanwhile.
        """
        asked = self._thread.submit(function)
        try:
            return asked.result(_ANSWER_SECONDS)
        finally:
            asked.cancel()

    async def leave(self, worker_id: WorkerId, reason: str, *, told_to_stop: bool) -> None:
        """Take back what a worker holds that leaves, or has to; see `Coordinator.leave`."""
        if await self.call(self.coordinator.leave, worker_id, reason, told_to_stop=told_to_stop):
            self.departed.add(worker_id)
            self.announce()

    def close(self) -> None:
        """Wait for what the coordinator's thread is at, and put its end on record; nobody may close the run before."""
        self._thread.shutdown(cancel_futures=True)
        self.coordinator.stop()

    def announce(self) -> None:
        """Wake everyone: there may be new work, or the run has ended."""
        self.work.ring()
        self.advance()

    def advance(self) -> None:
        """Wake the rounds, and who looks at them."""
        self.changed.ring()
        self.news.ring()

    @contextlib.contextmanager
    def stopping_if_disk_fails(self) -> Iterator[None]:
        """Have the rounds stop when the disk is full or fails within the block.

        Raises:
            StorageError: that has happened.
        """
        try:
            yield
        except FileNotFoundError:
            raise  # a round has ended meanwhile
        except (OSError, sqlite3.Error) as error:
            self._storage_error = error
            self.advance()
            raise StorageError(str(error)) from error

    def raise_if_disk_failed(self) -> None:
        """Raise what a call has met that reads or writes the run directory, OSError or sqlite3.Error."""
        if self._storage_error is not None:
            raise self._storage_error
