"""What operators have said of a run, as run.db's table `run` remembers it over restarts. Imports no torch."""

import json
from pathlib import Path

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.server.store.rundb.database import Database

_PAUSED = "paused"
_READMITTED = "readmitted"


def paused(database: Database) -> str:
    """Return who has paused the run, and why, as a sentence; '': it is not paused."""
    return database.get(_PAUSED)


def require_not_paused(run: Path, database: Database) -> None:
    """Check that a run may be driven by a process that nobody can tell to go on.

    Raises:
        LotteryFLError: it is paused.
    """
    if sentence := paused(database):
        raise LotteryFLError(f"{run}: is {sentence}; `lotteryfl resume {run}` lets it go on")


def put_paused(database: Database, sentence: str) -> None:
    """Set who has paused the run, and why; '': it goes on."""
    database.put(_PAUSED, sentence)


def readmitted(database: Database) -> dict[str, int]:
    """Return by worker's name how many of its refused results do not count against it any more."""
    found: dict[str, int] = json.loads(database.get(_READMITTED, "{}"))
    return found


def put_readmitted(database: Database, worker: str, results: int) -> None:
    """Set how many of a worker's refused results do not count against it any more: all that there were."""
    database.put(_READMITTED, json.dumps(readmitted(database) | {worker: results}))
