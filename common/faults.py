"""Named points at which tests let a process fail: it dies, stops, dawdles, meets an error or loses its connections.

Nothing happens unless LOTTERYFL_FAULTS names faults, as in `result-recorded:die@2,ack-received:lose`: the first time
that the process passes the point for at least the second time, it dies there. Each fault happens once in a process;
with LOTTERYFL_FAULTS_LOG=FILE, to which every fault is written before it happens, once for all processes that are
started with the same file.
"""

import errno
import os
import re
import signal
import socket
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from lotteryfl.common.errors import LotteryFLError

T = TypeVar("T")

_FILES = ("results", "masks", "models")
_CHUNKS = ("chunk-first-sent", "chunk-middle-sent", "chunk-last-sent")

SETUP_POINTS = (
    *("setup-folder-made", "setup-marked"),
    *(f"experiment-{step}" for step in ("written", "synced", "renamed")),
    *("database-written", "database-renamed"),
    *("setup-synced", "setup-unmarked"),
)
"""Where a coordinator can be made to fail while it sets up a run; θ_0 and masks have the points of their folders."""

COORDINATOR_POINTS = (
    *("lease-writing", "lease-written"),
    *_CHUNKS,  # of a download
    *(f"{folder}-{step}" for folder in _FILES for step in ("written", "synced", "renamed")),
    *("result-recording", "result-recorded", "ack-sending"),
    *("round-committing", "round-committed"),
)
"""Where a coordinator can be made to fail; the files are named by their folder in the run directory."""

WORKER_POINTS = ("assignment-received", *_CHUNKS, "ack-received")
"""Where a worker can be made to fail; its chunks are those of an upload."""

LENGTHENING_POINTS = ("lengthened-recorded", *(f"lengthened-{step}" for step in ("written", "synced", "renamed")))
"""Where a command can be made to fail that makes a run longer."""

TRACKER_POINTS = ("tracker-connected", "tracker-sent")
"""Where a process can be made to fail that feeds trackers."""

_DELAY_SECONDS = 0.5


_POINTS = {*SETUP_POINTS, *COORDINATOR_POINTS, *WORKER_POINTS, *LENGTHENING_POINTS, *TRACKER_POINTS}


class LostError(Exception):
    """A call fails whose work has been done: the answer was lost."""


class Fault(NamedTuple):
    """What is to happen, and where."""

    point: str
    action: str
    passage: int
    """It happens at this passage of the point or, where another fault happens at that, at the next."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read POINT:ACTION or POINT:ACTION@PASSAGE.

        Raises:
            LotteryFLError: the text is none, or there is no such point or action.
        """
        match = re.fullmatch(r"([a-z-]+):([a-z]+)(?:@([1-9]\d{0,8}))?", text.strip(), re.ASCII)
        if match is None:
            raise LotteryFLError(f"LOTTERYFL_FAULTS: {text!r}: expected POINT:ACTION@PASSAGE")
        point, action, passage = match.groups()
        for kind, name, known in (
            ("point", point, _POINTS),
            ("action", action, ACTIONS.keys()),
        ):
            if name not in known:
                raise LotteryFLError(f"LOTTERYFL_FAULTS: {kind} {name!r}: expected one of {', '.join(sorted(known))}")
        return cls(point, action, int(passage or 1))

    def __str__(self) -> str:
        return f"{self.point}:{self.action}@{self.passage}"


class Plan:
    """The faults that are still to happen in this process."""

    def __init__(self, faults: Iterable[Fault], log: Path | None = None) -> None:
        """Plan faults, without those that are in the log."""
        happened = {line.split()[-1] for line in _lines(log)}
        self._faults = [fault for fault in faults if str(fault) not in happened]
        self._log = log
        self._passages: Counter[str] = Counter()
        self._lock = threading.Lock()

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self | None:
        """Return the plan that the environment asks for, if any.

        Raises:
            LotteryFLError: it asks for what there is not.
        """
        text = environment.get("LOTTERYFL_FAULTS", "")
        log = environment.get("LOTTERYFL_FAULTS_LOG")
        return cls(map(Fault.parse, text.split(",")), Path(log) if log else None) if text else None

    def passed(self, point: str) -> None:
        """Let the next fault of the point happen, if its passage has come."""
        with self._lock:
            self._passages[point] += 1
            passage = self._passages[point]
            due = next((f for f in self._faults if f.point == point and f.passage <= passage), None)
            if due is None:
                return
            self._faults.remove(due)
            if self._log is not None:
                with self._log.open("a", encoding="ascii") as log:
                    log.write(f"{time.time():.3f} {due}\n")
        ACTIONS[due.action](point)


def fault(point: str) -> None:
    """Fail here, if a test wants it.

    Raises:
        OSError: the action `raise`.
        grpc.RpcError: the action `lose`.
    """
    if _plan is not None:
        _plan.passed(point)


def between_chunks(chunks: Iterable[T]) -> Iterable[T]:
    """Pass the chunks of a stream on, with a point after the first, the second and the last of them."""
    return chunks if _plan is None else _with_points(chunks)


def _with_points(chunks: Iterable[T]) -> Iterator[T]:
    for number, chunk in enumerate(chunks):
        if 1 <= number <= 2:
            fault(_CHUNKS[number - 1])
        yield chunk
    fault(_CHUNKS[-1])


def _lines(log: Path | None) -> list[str]:
    return log.read_text(encoding="ascii").splitlines() if log is not None and log.exists() else []


def _die(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop(_: str) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _raise(point: str) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), point)


def _delay(_: str) -> None:
    time.sleep(_DELAY_SECONDS)


def _cut(_: str) -> None:
    """Cut all TCP connections of the process, under the feet of whoever uses them."""
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile, or it listens
            if not stat.S_ISSOCK(entry.stat().st_mode):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as connection:
                if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getpeername():
                    connection.shutdown(socket.SHUT_RDWR)


def _lose(point: str) -> None:
    """Let a call fail whose work has been done."""
    _cut(point)
    raise LostError(f"lost at {point}")


ACTIONS: dict[str, Callable[[str], None]] = {
    "die": _die,
    "stop": _stop,
    "raise": _raise,
    "delay": _delay,
    "cut": _cut,
    "lose": _lose,
}
"""What can happen: SIGKILL, SIGSTOP, a full disk, half a second, connections cut; done but the call fails."""

_plan = Plan.of(os.environ)
