"""Where it is put on record what has happened in a run that people are to know of."""

import logging
from contextlib import AbstractContextManager
from typing import Protocol

from lotteryfl.server.store.rundb.database import Database

_log = logging.getLogger("lotteryfl.coordinator")


class Record(Protocol):
    """The record of one run."""

    def transaction(self) -> AbstractContextManager[None]:
        """All of the block's changes reach the disk, or none."""

    def note_event(self, kind: str, text: str, worker: str = "") -> None:
        """Put on record what the transaction around it has changed.

        Args:
            kind: what, in a word.
            text: the same in a sentence.
            worker: name of whom it is about; '': of nobody.
        """


class LoggedRecord:
    """A record that is the log."""

    def __init__(self, database: Database) -> None:
        """Set whose transactions they are."""
        self._database = database

    def transaction(self) -> AbstractContextManager[None]:
        """All of the block's changes reach the disk, or none."""
        return self._database.transaction()

    def note_event(self, kind: str, text: str, worker: str = "") -> None:
        """Log what has happened; see `Record`."""
        _log.info("%s: %s%s", kind, f"{worker}: " if worker else "", text)
