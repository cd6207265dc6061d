"""Marks: that somebody who keeps records has verified one, and how; files beside the records, for the board."""

import hashlib
from pathlib import Path
from typing import Literal

from lotteryfl.common.disk.atomicfile import write_text
from lotteryfl.common.disk.privatefiles import SHARED_FILE
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.tables import explained
from lotteryfl.common.section import Section
from lotteryfl.common.text import brief, printable
from lotteryfl.records.files import read_bytes
from lotteryfl.records.record import SHA256, Made
from lotteryfl.records.versions import made_here

Way = Literal["run again", "its run"]
"""By what: another run of the experiment had the same bits, or the run's directory says what the record does."""


class Mark(Section):
    """That a record was verified."""

    record_sha256: SHA256
    """Of its file: of a record that was changed since, it says nothing."""
    by: Way
    made: Made
    """Where it was verified."""


def mark_file(record: Path) -> Path:
    """Return where the mark of a record's file is."""
    return record.with_suffix(".verified")


def mark(record: Path, by: Way) -> Path:
    """Write beside a record that it was verified; what a run again has shown stays.

    Raises:
        LotteryFLError: it cannot be written.
    """
    file = mark_file(record)
    if by == "its run" and is_marked(record) == "run again":
        return file
    found = Mark(record_sha256=_sha256(record), by=by, made=made_here())
    try:
        write_text(file, found.model_dump_json(indent=1) + "\n", SHARED_FILE)
    except OSError as error:
        raise LotteryFLError(f"{file}: cannot be written: {error.strerror or error}") from error
    return file


def is_marked(record: Path) -> Way | None:
    """Return how a record was verified, as a mark beside it says; None: it was not, or was changed since.

    Raises:
        LotteryFLError: there is a mark, and it cannot be read, or is none.
    """
    file = mark_file(record)
    if not file.is_file():
        return None
    try:
        with explained(Mark, str(file), resolved=True):
            found = Mark.model_validate_json(read_bytes(file))
    except LotteryFLError as error:
        raise LotteryFLError(printable(brief(str(error)))) from error
    return found.by if found.record_sha256 == _sha256(record) else None


def _sha256(record: Path) -> str:
    return hashlib.sha256(read_bytes(record)).hexdigest()
