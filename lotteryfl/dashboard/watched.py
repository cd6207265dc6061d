"""A run that is looked at: read once for all who look, and only while somebody does."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, NamedTuple

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.text import printable
from lotteryfl.dashboard.answers import as_json
from lotteryfl.dashboard.live import Live
from lotteryfl.dashboard.reading.reader import Snapshot, call, read_snapshot
from lotteryfl.dashboard.reading.standing import status_of
from lotteryfl.dashboard.reading.workers import fleet_of, fleet_of_directory
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.following import Stamps, stamps
from lotteryfl.server.store.record import RunRecord
from lotteryfl.server.store.runlock import is_being_run

_LEAST_SECONDS = 0.9
"""Between two readings of one run; who looks comes every second."""

_PAUSE = 10.0
"""So many times as long as a reading took, none is made: seeing takes a share of this machine, not all of it."""

_KEPT = 32
"""Answers to single questions that are kept until the run has changed."""


class _Answer(NamedTuple):
    state: Hashable
    at: float
    value: Any


class WatchedRun:
    """One run directory, with what its coordinator says beside it."""

    def __init__(self, name: str, path: Path, live: Live) -> None:
        """Set which; nothing is read yet.

        Args:
            name: what it is called in addresses.
            path: its directory.
            live: what its coordinator says.
        """
        self.name = name
        self.title = printable(path.resolve().name)
        self.path = path
        self.live = live
        self.used = time.monotonic()
        """When somebody looked at it last."""
        self.problem = ""
        """Why the directory cannot be read now."""
        self._stamps: Stamps | None = None
        self._snapshot: Snapshot | None = None
        self._is_driven = False  # at the last reading, by the lock of the run
        self._reading = asyncio.Lock()
        self._next = 0.0
        self._number = 0  # of the snapshot
        self._rendered: dict[str, tuple[Hashable, bytes]] = {}
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()
        self._asked: dict[Hashable, asyncio.Task[Any]] = {}
        self._brief: tuple[Stamps, dict[str, Any]] | None = None
        self._next_brief = 0.0

    # -- what all see

    async def refresh(self) -> Snapshot | None:
        """Read the run where it has changed, at most once in a while; return what is known of it, if anything is."""
        self.used = time.monotonic()
        async with self._reading:
            begin = time.monotonic()
            if begin < self._next:
                return self._snapshot
            self._is_driven, found = is_being_run(self.path), stamps(self.path)
            if found != self._stamps or self._snapshot is None:
                try:
                    self._snapshot = await asyncio.to_thread(read_snapshot, self.path, self._snapshot)
                    self._stamps, self.problem = found, ""
                except LotteryFLError as error:
                    self.problem = str(error)
                self._number += 1
            self._next = _next(begin)
        return self._snapshot

    async def snapshot(self) -> Snapshot:
        """Return the run as it is.

        Raises:
            LotteryFLError: it cannot be read.
        """
        snapshot = await self.refresh()
        if snapshot is None:
            raise LotteryFLError(self.problem or f"{self.path}: cannot be read")
        return snapshot

    def forget(self) -> None:
        """Hold nothing of the run any more: nobody looks."""
        self._snapshot, self._stamps, self._next = None, None, 0.0
        self._rendered.clear()
        self._answers.clear()

    @property
    def is_held(self) -> bool:
        """Whether anything of it is."""
        return self._snapshot is not None or bool(self._answers)

    # -- as the page has it

    def tag(self, snapshot: Snapshot) -> str:
        """Return what tells this run, as long as it is meant to be now, from others: ids of events begin with it."""
        return hashlib.sha256(f"{snapshot.run_id} {snapshot.experiment.rounds}".encode()).hexdigest()[:8]

    def state_of(self, what: str) -> Hashable:
        """Return what differs when the status, or the fleet, has changed."""
        news = self.live.news
        return (what, self._number, self._is_driven, self.live.number if news else 0)

    def status(self, snapshot: Snapshot) -> bytes:
        """Return where it stands, as JSON: made once for all who look."""
        return self._render("status", lambda: self._status(snapshot))

    def fleet(self, snapshot: Snapshot) -> bytes:
        """Return what its workers are at, as JSON."""
        return self._render("fleet", lambda: self._fleet(snapshot))

    def _render(self, what: str, make: Callable[[], object]) -> bytes:
        state = self.state_of(what)
        known = self._rendered.get(what)
        if known is None or known[0] != state:
            known = self._rendered[what] = state, as_json(make())
        return known[1]

    def _status(self, snapshot: Snapshot) -> dict[str, Any]:
        news = self.live.news
        status = news.status if news else snapshot.status
        is_driven = self._is_driven or news is not None
        return {
            **status_of(
                snapshot.experiment, snapshot.score, snapshot.rounds, snapshot.facts, status, is_driven=is_driven
            ),
            "live": news is not None,
            "heard_at": self.live.heard_at,
            "problem": self.problem,
        }

    def _fleet(self, snapshot: Snapshot) -> dict[str, Any]:
        news, results = self.live.news, snapshot.rounds.results
        if news is None or news.status.state != pb.RunStatus.RUNNING:
            return fleet_of_directory(snapshot.served, results, snapshot.facts.open_round)
        experiment = snapshot.experiment
        return fleet_of(
            news.fleet,
            snapshot.served,
            results,
            lease=experiment.round.lease,
            hides_loss=experiment.privacy.hides_loss,
        )

    # -- single questions

    async def ask(self, key: Hashable, function: Callable[[RunRecord], Any]) -> Any:
        """Return what a function reads of the run; the same question is answered once while the run stays as it is.

        Args:
            key: what tells the question from others.
            function: its answer, which is not changed any more.

        Raises:
            LotteryFLError: the run cannot be read.
        """
        self.used = time.monotonic()
        return await self.ask_of(stamps(self.path), key, function)

    async def ask_of(self, state: Hashable, key: Hashable, function: Callable[[RunRecord], Any]) -> Any:
        """Return the same, where the answer stays as long as a state of its own.

        Raises:
            LotteryFLError: the run cannot be read.
        """
        known = self._answers.get(key)
        if known and (known.state == state or time.monotonic() < known.at + _LEAST_SECONDS):
            return known.value
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.create_task(self._answer(key, state, function))
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        return await asyncio.shield(task)

    async def _answer(self, key: Hashable, state: Hashable, function: Callable[[RunRecord], Any]) -> Any:
        value = await asyncio.to_thread(call, self.path, function)
        self._answers[key] = _Answer(state, time.monotonic(), value)
        self._answers.move_to_end(key)
        if len(self._answers) > _KEPT:
            self._answers.popitem(last=False)
        return value

    # -- in the list

    async def brief(self) -> dict[str, Any]:
        """Return what the list of runs says of it; what was read for it alone is not kept."""
        is_driven, found, begin = is_being_run(self.path), stamps(self.path), time.monotonic()
        if self._brief is None or (self._brief[0] != found and begin >= self._next_brief):
            try:
                known = self._snapshot if found == self._stamps else None
                if known is None:
                    known = await asyncio.to_thread(read_snapshot, self.path, self._snapshot)
                self._brief = found, _brief(known)
            except LotteryFLError as error:
                self._brief = found, {"problem": str(error)}
            self._next_brief = _next(begin)
        said = {"name": self.name, "title": self.title, "live": self.live.news is not None}
        if self._brief[1].get("state") == "running" and not (is_driven or said["live"]):
            said |= {"state": "stopped", "time_left": None}
        return {**dict.fromkeys(_BRIEF), **self._brief[1], **said}


def _next(begin: float) -> float:
    """Return when a run may be read again whose reading began then and has just ended."""
    end = time.monotonic()
    return end + max(_LEAST_SECONDS, _PAUSE * (end - begin))


_BRIEF = (
    *("name", "title", "state", "reason", "strategy", "task", "model", "seed", "round", "rounds", "clients", "score"),
    *("downloaded", "personalised", "density", "sent", "started_at", "time_left", "group", "live", "problem"),
)


def _brief(snapshot: Snapshot) -> dict[str, Any]:
    status = status_of(snapshot.experiment, snapshot.score, snapshot.rounds, snapshot.facts, snapshot.status)
    rounds = snapshot.rounds
    last = {name: rounds.columns[name][-1] if rounds.numbers else None for name in _OF_ROUND}
    alike = snapshot.experiment.model_copy(update={"seed": 0}).model_dump_json()
    return {
        **{name: status[name] for name in _BRIEF if name in status},
        **last,
        "sent": status["bytes_down"] + status["bytes_up"],
        "group": hashlib.sha256(alike.encode()).hexdigest()[:8],
        "problem": "",
    }


_OF_ROUND = ("downloaded", "personalised", "density")
