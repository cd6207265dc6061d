"""What happens in a run, on its way to run.db: with the transaction that makes it so, or with the next one.

An event that says what a transaction has changed is written in it: it is on record if that is. What only says who
comes and goes is remembered until the next transaction, or for about a second: no worker that joins waits for the disk.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lotteryfl.common.names import WorkerId
from lotteryfl.common.security.identity import name_of
from lotteryfl.common.text import brief
from lotteryfl.server.store.assignments import Standing
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundb.events import Kind, NewEvent, add_events, now

_MOST_REMEMBERED = 1000
"""Events that wait for a transaction; of more it is only written how many there were."""

_MOST_AT_ONCE = 100
"""Clients that a change of many at once is told of; of more, how many."""

_PAUSE = 1.0
"""Seconds between two transactions that nothing else is written in."""


class Events:
    """The events of one run; one thread at a time uses them."""

    def __init__(self, database: Database) -> None:
        """Begin with nothing; what is on record is nobody's but the viewers'."""
        self._database = database
        self._new: list[NewEvent] = []
        self._too_many = 0
        self._next_write = float("-inf")
        self.round = 0
        """The open round, which events belong to."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Change run.db, and write what was remembered and what the block adds; if it fails, nothing of the block."""
        remembered = len(self._new)
        try:
            with self._database.transaction():
                yield
                if self._too_many:
                    self.add("joined", f"{self._too_many} more workers came and went than are told")
                if self._new:
                    add_events(self._database, self._new)
        except BaseException:
            del self._new[remembered:]
            raise
        self._new.clear()
        self._too_many = 0

    def add(self, kind: Kind, text: str, *, client: int | None = None, worker: str = "") -> None:
        """Add what the transaction around it has changed.

        Args:
            kind: what has happened.
            text: the same for people, with its reason.
            client: which it is about, if it is about one.
            worker: name of the one that it is about; '': none.
        """
        self._new.append(NewEvent(now(), kind, self.round, client, worker, brief(text)))

    def add_each(self, kind: Kind, standings: Sequence[Standing]) -> None:
        """Add the same of several assignments, each with the reason that its standing has."""
        for standing in standings[:_MOST_AT_ONCE]:
            self.add(kind, standing.reason, client=standing.id.client, worker=name_of(standing.worker))
        if (others := len(standings) - _MOST_AT_ONCE) > 0:
            self.add(kind, f"and {others} more clients")

    def add_taken_back(self, standings: Sequence[Standing]) -> None:
        """Add that assignments are not under work any more: they are tried again, or given up."""
        self.add_each("retried", [each for each in standings if each.state != "dropped"])
        self.add_each("given-up", [each for each in standings if each.state == "dropped"])

    def remember(self, kind: Kind, text: str, worker: WorkerId = WorkerId("")) -> None:
        """Have it written with what is written next.

        Args:
            kind: what has happened.
            text: the same for people.
            worker: that it is about; '': it is about none.
        """
        if len(self._new) < _MOST_REMEMBERED:
            self.add(kind, text, worker=name_of(worker))
        else:
            self._too_many += 1

    def write(self, moment: float) -> None:
        """Write what is remembered, unless that was done less than a second ago.

        Args:
            moment: the time.
        """
        if self._new and moment >= self._next_write:
            self._next_write = moment + _PAUSE
            with self.transaction():
                pass
