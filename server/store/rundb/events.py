"""What has happened in a run, as queries of run.db: the newest events, in the order in which they came."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from lotteryfl.server.store.rundb.database import Database

MOST_KEPT = 10_000
"""Rows: of a run that goes on for months, the oldest go."""

MOST_SENT = 500
"""Events of a message: each has a text of at most 1,000 characters."""

Kind = Literal[
    "started",
    "stopped",
    "failed",
    "finished",
    "joined",
    "left",
    "lost",
    "back",
    "refused",
    "aside",
    "retried",
    "given-up",
    "late",
    "round-retry",
    "paused",
    "resumed",
    "drained",
    "disk",
]


class NewEvent(NamedTuple):
    """What has just happened."""

    at: str
    """By the coordinator's clock, ISO 8601, UTC."""
    kind: Kind
    round: int
    """The open one."""
    client: int | None
    """None: it is about no client in particular."""
    worker: str
    """Its name; '': it is about none in particular."""
    text: str


class Event(NamedTuple):
    """What has happened."""

    id: int
    """Grows."""
    at: str
    kind: str
    round: int
    client: int | None
    worker: str
    text: str


def now() -> str:
    """Return the time as run.db has it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def add_events(database: Database, events: Iterable[NewEvent]) -> None:
    """Write events inside the caller's transaction; the oldest go where there are too many."""
    database.change("INSERT INTO events (at, kind, round, client, worker, text) VALUES (?, ?, ?, ?, ?, ?)", events)
    database.change("DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", [(MOST_KEPT,)])


def newest_events(database: Database, after: int = 0, most: int = MOST_SENT) -> list[Event]:
    """Return the newest events, the oldest of them first.

    Args:
        database: of the run.
        after: later than this one, by its id.
        most: how many at most.
    """
    query = "SELECT id, at, kind, round, client, worker, text FROM events WHERE id > ? ORDER BY id DESC LIMIT ?"
    return [Event(*row) for row in database.select(query, after, most)][::-1]
