"""A run that is made longer: more rounds on record, and the last measuring out of their way."""

import json
import sqlite3
from contextlib import suppress
from pathlib import Path

from lotteryfl.common.disk.folders import sync_folder
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.faults import fault
from lotteryfl.server.store.binding import note_file_rounds, record, write_again
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundir import RunDirectory, cannot_be_written

_EARLIER = "earlier_rounds"
"""Key of run.db's table `run`: how many rounds the run had before, in order, as JSON."""


def earlier_rounds(database: Database) -> list[int]:
    """Return how many rounds a run had before it was made longer, each time in order."""
    return [int(rounds) for rounds in json.loads(database.get(_EARLIER, "[]"))]


def lengthen(run: RunDirectory, rounds: int) -> None:
    """Let a run have more rounds.

    If it has come to the measuring after its last one, that stays on record under its number with a minus, and what is
    next is the round that it stood in the place of. Its attempts go on being numbered, so that an answer from before is
    stale. One transaction is all of it; experiment.toml follows, after a crash when the run is opened again.

    Raises:
        LotteryFLError: the folder cannot be written.
    """
    database, before = run.database, run.experiment.rounds
    wanted = run.experiment.model_copy(update={"rounds": rounds})
    final = before + 1
    has_final = database.is_open(final) or database.committed_rounds() == final
    try:
        if has_final:
            _keep_summary(run.path, before)
        _record(run, wanted, final if has_final else None)
        run.experiment = wanted
        fault("lengthened-recorded")
        write_again(run.path, database, wanted)
    except (OSError, sqlite3.Error) as error:
        raise cannot_be_written(run.path, error) from error


def _record(run: RunDirectory, wanted: Experiment, final: int | None) -> None:
    database = run.database
    with database.transaction():
        record(database, wanted)
        note_file_rounds(database, run.experiment.rounds)
        database.put(_EARLIER, json.dumps([*earlier_rounds(database), run.experiment.rounds]))
        if final is not None:
            database.set_aside(final, f"the run was made longer, to {wanted.rounds} rounds, before it was over")
            database.put("state", "running")
            database.put("reason", "")


def _keep_summary(run: Path, rounds: int) -> None:
    """Give the summary of a run that had so many rounds a name of its own; first of all, as it can be made anew."""
    with suppress(FileNotFoundError):
        (run / "summary.json").replace(run / f"summary-{rounds:04d}.json")
        sync_folder(run)
