"""What has happened in a run: the events that run.db keeps, or, of an earlier version's, what it tells without them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lotteryfl.common.security.identity import name_of
from lotteryfl.common.text import printable
from lotteryfl.dashboard.reading.times import seconds_of
from lotteryfl.server.store.rundb.database import Database

MOST_AT_ONCE = 1000
_TAIL = 500
"""How many of the last ones are at hand for who comes back."""

_EVENTS = "SELECT id, at, kind, round, client, worker, text FROM events"
_HAS_TABLE = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'events'"


class Event(NamedTuple):
    """One of them."""

    id: int
    at: float | None
    kind: str
    round: int | None
    client: int | None
    worker: str
    text: str


@dataclass(frozen=True)
class Wanted:
    """Which events are asked for."""

    before: int | None = None
    """Older than that one, by its id."""
    limit: int = 200
    kinds: Sequence[str] = ()
    """Of these kinds; none: of all."""
    worker: str = ""
    client: int | None = None


class Tail(NamedTuple):
    """The last events, oldest first."""

    events: tuple[Event, ...]
    whole: bool
    """There are none before them."""

    @property
    def last(self) -> int:
        """The id of the last one; 0: none."""
        return self.events[-1].id if self.events else 0


def tail(database: Database) -> Tail:
    """Return the last events."""
    found, more = _select(database, Wanted(limit=_TAIL))
    return Tail(tuple(reversed(found)), not more)


def page(database: Database, wanted: Wanted) -> dict[str, Any]:
    """Return events, newest first, as the page has them."""
    found, more = _select(database, wanted)
    return {"events": [event._asdict() for event in found], "more": more, "kept": _are_kept(database)}


def _are_kept(database: Database) -> bool:
    """Tell whether the run's events are on record; what was migrated to be read has the table, and nothing in it."""
    (has_table,) = database.select(_HAS_TABLE).fetchone()
    return bool(has_table) and database.select("SELECT 1 FROM events LIMIT 1").fetchone() is not None


def _select(database: Database, wanted: Wanted) -> tuple[list[Event], bool]:
    if not _are_kept(database):
        fitting = [event for event in _told_without(database) if _fits(event, wanted)]
        return fitting[: wanted.limit], len(fitting) > wanted.limit
    conditions, values = ["id < ?"], [2**62 if wanted.before is None else wanted.before]
    given: list[object] = [*values]
    if wanted.kinds:
        conditions.append(f"kind IN ({', '.join('?' * len(wanted.kinds))})")
        given += wanted.kinds
    if wanted.worker:
        conditions.append("worker = ?")
        given.append(wanted.worker)
    if wanted.client is not None:
        conditions.append("client = ?")
        given.append(wanted.client)
    query = f"{_EVENTS} WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?"
    rows = database.select(query, *given, wanted.limit + 1).fetchall()
    return [_event(*row) for row in rows[: wanted.limit]], len(rows) > wanted.limit


def _event(
    id_: int, at: str | None, kind: str, round_: int | None, client: int | None, worker: str, text: str
) -> Event:
    return Event(id_, seconds_of(at), printable(kind), round_, client, printable(worker), printable(text))


def _fits(event: Event, wanted: Wanted) -> bool:
    return (
        (wanted.before is None or event.id < wanted.before)
        and (not wanted.kinds or event.kind in wanted.kinds)
        and wanted.worker in ("", event.worker)
        and wanted.client in (None, event.client)
    )


def _told_without(database: Database) -> list[Event]:
    """Return what refusals, rounds and assignments tell, newest first."""
    rows = [*_refused(database), *_rounds(database), *_left_out(database)]
    rows.sort(key=lambda row: (row[0], row[1] or ""))  # by round, then by time
    events = [
        _event(number, at, kind, round_, client, worker, text)
        for number, (round_, at, kind, client, worker, text) in enumerate(rows, 1)
    ]
    return events[::-1]


_Row = tuple[int, str, str, int | None, str, str]


def _refused(database: Database) -> Iterator[_Row]:
    for round_, client, worker, reason in database.select(
        "SELECT round, client, worker, reason FROM refusals WHERE round > 0 ORDER BY number"
    ):
        yield round_, "", "refused", client, worker, reason


def _rounds(database: Database) -> Iterator[_Row]:
    for round_, opened, retries, reason in database.select(
        "SELECT round, opened_at, retries, reason FROM rounds WHERE round > 0 AND retries > 0"
    ):
        yield round_, opened, "round-retry", None, "", reason or f"was tried again {retries} times"


def _left_out(database: Database) -> Iterator[_Row]:
    for round_, client, worker, reason, state, ended in database.select(
        "SELECT a.round, a.client, a.worker, a.reason, a.state, o.committed_at FROM assignments a "
        "JOIN rounds o USING (round) WHERE a.round > 0 AND o.state = 'committed' AND a.state != 'done'"
    ):
        kind = "given-up" if state == "dropped" and reason else "late"
        yield round_, ended, kind, client, name_of(worker), reason or "had no result in time"
