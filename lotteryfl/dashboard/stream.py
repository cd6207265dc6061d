"""Server-sent events of a run. Nothing is kept of a viewer: who comes back says what it knows, and gets the rest."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

from lotteryfl.dashboard.answers import as_json
from lotteryfl.dashboard.catalogue import Catalogue
from lotteryfl.dashboard.reading.reader import Snapshot
from lotteryfl.dashboard.watched import WatchedRun

_EVERY = 1.0
"""Seconds between two events of a kind."""

_ALIVE = 15
"""Looks without an event after which a line shows that the stream is alive."""

_MOST_ROUNDS = 200
"""That are sent to who comes back; who has missed more reads all anew."""

_CURSOR = re.compile(r"([0-9a-f]{8})\.(\d{1,9})\.(\d{1,18})", re.ASCII)


class Cursor(NamedTuple):
    """What a viewer knows."""

    tag: str
    """Of which run."""
    round: int
    """The last round."""
    event: int
    """The id of the last event."""

    def __str__(self) -> str:
        return f"{self.tag}.{self.round}.{self.event}"

    @classmethod
    def parse(cls, text: str | None) -> "Cursor | None":
        """Read what `str` has written; None: it is nothing such."""
        found = _CURSOR.fullmatch(text or "")
        return cls(found[1], int(found[2]), int(found[3])) if found else None


def cursor_of(run: WatchedRun, snapshot: Snapshot) -> Cursor:
    """Return what a viewer knows that has seen all."""
    return Cursor(run.tag(snapshot), snapshot.rounds.last, snapshot.events.last)


class Viewer:
    """What one viewer has been told."""

    def __init__(self, run: WatchedRun, cursor: Cursor | None) -> None:
        """Begin to tell.

        Args:
            run: of which.
            cursor: what the viewer knows; None: nothing but what comes from now on.
        """
        self._run = run
        self._cursor = cursor
        self._told: dict[str, Hashable] = {}

    def news(self, snapshot: Snapshot) -> Iterator[bytes]:
        """Yield the events that take the viewer to a moment of the run."""
        now = cursor_of(self._run, snapshot)
        before = self._cursor or now
        self._cursor = now
        if why := _missed(before, now, snapshot):
            yield _event("reset", now, as_json({"why": why}))
            self._told.clear()
        else:
            if now.round > before.round:
                yield _event("rounds", now, as_json(snapshot.rounds.after(before.round)))
            if now.event > before.event:
                events = [event._asdict() for event in snapshot.events.events if event.id > before.event]
                yield _event("events", now, as_json({"events": events}))
        for what, render in (("status", self._run.status), ("fleet", self._run.fleet)):
            state = self._run.state_of(what)
            if self._told.get(what) != state:
                self._told[what] = state
                yield _event(what, now, render(snapshot))


def _missed(before: Cursor, now: Cursor, snapshot: Snapshot) -> str:
    """Return why a viewer has to read all anew; '': it need not."""
    if before.tag != now.tag or before.round > now.round or before.event > now.event:
        return "this is another run than the one that was shown, or it was made longer"
    rounds = snapshot.rounds.numbers
    if sum(number > before.round for number in rounds[-_MOST_ROUNDS - 1 :]) > _MOST_ROUNDS:
        return "too many rounds were missed"
    events = snapshot.events
    if events.events and not events.whole and events.events[0].id > before.event + 1 and now.event > before.event:
        return "too many events were missed"
    return ""


def run_stream(run: WatchedRun, cursor: Cursor | None, closing: asyncio.Event) -> AsyncIterator[bytes]:
    """Return what a viewer of a run gets, until the page's process ends."""
    viewer = Viewer(run, cursor)

    async def look() -> Sequence[bytes]:
        snapshot = await run.refresh()
        return () if snapshot is None else tuple(viewer.news(snapshot))

    return _stream(look, closing)


def list_stream(catalogue: Catalogue, closing: asyncio.Event) -> AsyncIterator[bytes]:
    """Return the list of runs, now and whenever it has changed."""
    known = b""

    async def look() -> Sequence[bytes]:
        nonlocal known
        before, known = known, await catalogue.listing()
        return () if known == before else (b"event: runs\ndata: " + known + b"\n\n",)

    return _stream(look, closing)


async def _stream(look: Callable[[], Awaitable[Sequence[bytes]]], closing: asyncio.Event) -> AsyncIterator[bytes]:
    """Yield the events of look after look, and a line where none has come for long."""
    silent = 0
    yield b"retry: 2000\n\n"
    while True:
        events = await look()
        for event in events:
            yield event
        silent = 0 if events else silent + 1
        if silent >= _ALIVE:
            silent = 0
            yield b": alive\n\n"
        if await _closes(closing):
            return


async def _closes(closing: asyncio.Event) -> bool:
    """Wait for the next look; tell whether there is none."""
    try:
        async with asyncio.timeout(_EVERY):
            await closing.wait()
    except TimeoutError:
        return False
    return True


def _event(kind: str, cursor: Cursor, data: bytes) -> bytes:
    return f"event: {kind}\nid: {cursor}\ndata: ".encode() + data + b"\n\n"
