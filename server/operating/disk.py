"""Whether the disk has room for another round, by what the last ones have taken: said before it is full."""

import logging
import shutil
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rich.filesize import decimal

from lotteryfl.server.store.events import Events
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.runfiles import model_file, optimizer_file

_log = logging.getLogger("lotteryfl.coordinator")

_ROUNDS = 3
"""The last rounds, of which the one that took most is gone by."""

_RECORD_BYTES = 16 << 20
"""Room for run.db: SQLite's log beside it grows to 4 MB and more before it is put into it."""

_BLOCK = 512
"""Bytes that a file's blocks are counted in, whatever the disk's own are."""


class _Taken(NamedTuple):
    """Bytes of the disk that a round took."""

    by_result: float
    """A result and its mask, on the average."""
    by_model: int
    """The new model and what its optimizer keeps, which may be written twice."""


class DiskRoom:
    """Room on the disk of one run's directory."""

    def __init__(self, run: RunDirectory, events: Events) -> None:
        """Begin to look.

        Args:
            run: the open run directory.
            events: among which it is written that there is little.
        """
        self._run = run
        self._events = events
        self._taken: deque[_Taken] = deque(maxlen=_ROUNDS)
        self._is_short = False

    def look(self, assignments: int) -> str:
        """Look after a round, when what it has left without use is gone; the first time that it is short is told.

        Args:
            assignments: of the round that is open now.

        Returns:
            What is short, as a sentence; '': nothing.
        """
        self._taken.append(self._taken_by(self._run.database.last_round()))
        need = _RECORD_BYTES + round(
            assignments * max(taken.by_result for taken in self._taken) + max(taken.by_model for taken in self._taken)
        )
        free = shutil.disk_usage(self._run.path).free
        was_short, self._is_short = self._is_short, free < need
        if not self._is_short:
            return ""
        path = self._run.path
        short = f"the disk of {path} has {decimal(free)} free, and a round may take {decimal(need)}: make room"
        if not was_short:
            _log.warning("%s", short)
            with self._events.transaction():
                self._events.add("disk", short)
        return short

    def _taken_by(self, round_: int) -> _Taken:
        run = self._run
        results = run.database.results(round_)
        files = {run.tensor_path(row.file) for row in results}
        files |= {run.mask_path(row.mask) for row in results if row.mask}
        models = (run.path / model_file(round_), run.path / optimizer_file(round_))
        return _Taken(_size(files) / max(1, len(results)), 2 * _size(models))


def _size(files: Iterable[Path]) -> int:
    """Return the bytes of the disk that files take; of one that is not there, none."""
    total = 0
    for file in files:
        with suppress(FileNotFoundError):
            total += file.stat().st_blocks * _BLOCK
    return total
