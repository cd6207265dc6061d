"""What is new in a run directory: looked for now and then, whoever drives the run, across restarts of its coordinator.

A look opens run.db and closes it again, and only where its files have changed since the last one: a reader that keeps
it open would leave the coordinator's log beside it when the run is over, and not see who takes the run up again.
"""

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, Self, TypeVar

from lotteryfl.common.disk.fileversion import FileVersion, file_version
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.record import damage_named
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.summaries import round_summaries

T = TypeVar("T")

_MOST_FAILED = 3
"""Looks that fail one after the other before it is said: one may fall into the moment in which a run is taken up."""

_TICK = 2_000_000_000
"""Nanoseconds within which two changes of a file may bear the same time."""


Stamps = tuple[FileVersion | None, FileVersion | None]


class Look(NamedTuple, Generic[T]):
    """What a look has found."""

    items: Sequence[T]
    """What is new of the committed rounds, in order."""
    state: str
    """Where the run stands: running, finished or failed."""


class Follower(Generic[T]):
    """Reads of every committed round once, from some round on."""

    def __init__(self, path: Path, read: Callable[[Database, int], Sequence[T]], first: int = 1) -> None:
        """Set what is read.

        Args:
            path: the run directory.
            read: returns what is wanted of the committed rounds from this one on.
            first: the first round.
        """
        self._path = path
        self._read = read
        self._next = first
        self._seen: Stamps | None = None
        self._failed = 0

    @property
    def is_in_doubt(self) -> bool:
        """Whether the last look has failed, and has to be taken again."""
        return self._failed > 0

    def look(self) -> Look[T] | None:
        """Look once; None: nothing has changed, or it is in doubt.

        Raises:
            LotteryFLError: run.db cannot be read, or is damaged.
        """
        seen = stamps(self._path)
        if seen == self._seen:
            return None
        is_settled = all(file is None or time.time_ns() - file.modified > _TICK for file in seen)
        try:
            found = self._look()
        except LotteryFLError:
            self._failed += 1
            if self._failed >= _MOST_FAILED:
                raise
            return None
        self._failed = 0
        self._seen = seen if is_settled else None
        return found

    def _look(self) -> Look[T]:
        with damage_named(self._path):
            database = Database(self._path / "run.db", read_only=True)
            try:
                with database.snapshot():
                    last, state = database.last_round(), database.get("state")
                    found = self._read(database, self._next) if last >= self._next else ()
            finally:
                database.close()
        self._next = max(self._next, last + 1)
        return Look(found, state)


def stamps(run: Path) -> Stamps:
    """Return what changes whenever the record in a run directory does."""
    return file_version(run / "run.db"), file_version(run / "run.db-wal")


def is_being_written(found: Stamps) -> bool:
    """Tell whether somebody had the record open to write it, or was killed so: a reader then sees what is written."""
    return found[1] is not None


class _Pause(NamedTuple):
    """What is to be waited before the next look."""

    seconds: float


class FollowedRounds:
    """The rounds of a run, each as soon as it is committed: for `for` and for `async for`, once."""

    def __init__(self, path: Path, first: int, interval: float, timeout: float | None) -> None:
        """Set what is followed; see `RunView.follow`."""
        if interval <= 0:
            raise LotteryFLError(f"interval={interval:g}: expected seconds above 0")
        self._path = path
        self._interval = interval
        self._timeout = timeout
        self._follower = Follower(path, round_summaries, first)
        self._steps = self._followed()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> pb.RoundSummary:
        """Wait for a round.

        Raises:
            StopIteration: the run has finished, or failed.
            TimeoutError: none was committed in time.
            LotteryFLError: the run directory cannot be read.
        """
        while isinstance(step := next(self._steps), _Pause):
            time.sleep(step.seconds)
        return step

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> pb.RoundSummary:
        """Wait for a round, while the loop does something else.

        Raises:
            StopAsyncIteration: the run has finished, or failed.
            TimeoutError: none was committed in time.
            LotteryFLError: the run directory cannot be read.
        """
        while isinstance(step := await asyncio.to_thread(next, self._steps, None), _Pause):
            await asyncio.sleep(step.seconds)
        if step is None:
            raise StopAsyncIteration
        return step

    def _followed(self) -> Generator[pb.RoundSummary | _Pause, None, None]:
        state = "running"
        waited_since = time.monotonic()
        while True:
            found = self._follower.look()
            if found is not None:
                state = found.state
                yield from found.items
                if found.items:
                    waited_since = time.monotonic()
            if state != "running":
                return
            pause = self._interval
            if self._timeout is not None:
                left = waited_since + self._timeout - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{self._path}: no round was committed within {self._timeout:g} s")
                pause = min(pause, left)
            yield _Pause(pause)
