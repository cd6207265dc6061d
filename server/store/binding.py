"""What a run is bound to: the experiment that it was set up with, in run.db, against which its file is held.

run.db has the last word: experiment.toml is for people, and for the paths of this machine. Where the two differ after a
crash (run.db is written first), the file is written again by whoever drives the run next; where somebody has edited
it, the first key is named and nothing happens.
"""

from pathlib import Path

from lotteryfl.common.disk.atomicfile import write_text
from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.differences import first_bound_difference
from lotteryfl.common.experiment.experiment import Experiment, from_record, load_resolved, to_record, to_toml
from lotteryfl.server.store.rundb.database import Database

EXPERIMENT_FILE = "experiment.toml"

_RECORD = "experiment"
"""Key of run.db's table `run`: the experiment as JSON."""

_FILE_ROUNDS = "file_rounds"
"""Key of the same: the `rounds` that experiment.toml may still have, because it has not been written again yet."""


def bound_experiment(run: Path, database: Database) -> Experiment:
    """Return a run's experiment: its file's, which is the recorded one but for the paths of this machine.

    A run of an earlier version has no record until somebody goes on with it; then its file alone says what it is.

    Raises:
        ExperimentError: the file cannot be read, or differs from the record: the first key, and both values.
    """
    file = run / EXPERIMENT_FILE
    found, record = load_resolved(file), database.get(_RECORD)
    if not record:
        return found
    recorded = from_record(record, f"{run / 'run.db'}: run, key {_RECORD!r}")
    if str(found.rounds) == database.get(_FILE_ROUNDS):
        found = found.model_copy(update={"rounds": recorded.rounds})
    if difference := first_bound_difference(found, recorded):
        longer = f"; a run is made longer by --set rounds={found.rounds}" if difference.key == "rounds" else ""
        raise ExperimentError(f"{file}: {difference} as run.db has it: a run has one experiment, put it back{longer}")
    return found


def is_bound(database: Database) -> bool:
    """Tell whether the experiment is on record."""
    return bool(database.get(_RECORD))


def bind(run: Path, database: Database, experiment: Experiment) -> None:
    """Put the experiment of a run on record that was set up without, as far as the run does not belie it.

    Raises:
        ExperimentError: it does; the key is named, and nothing changes.
    """
    file, clients, committed = run / EXPERIMENT_FILE, len(database.clients()), database.committed_rounds()
    if experiment.clients != clients:
        raise ExperimentError(f"{file}: clients = {experiment.clients}, expected {clients} as run.db has it")
    ended = database.get("state") == "finished"
    if committed > experiment.rounds + 1 or ended != (committed == experiment.rounds + 1):
        state = "finished" if ended else "not finished"
        raise ExperimentError(
            f"{file}: rounds = {experiment.rounds}: the run is {state} with {committed} rounds committed, the last "
            "measuring of every client included"
        )
    record(database, experiment)


def record(database: Database, experiment: Experiment) -> None:
    """Put a run's experiment on record."""
    database.put(_RECORD, to_record(experiment))


def note_file_rounds(database: Database, rounds: int) -> None:
    """Note what `rounds` experiment.toml still has, in the transaction that changes those on record."""
    database.put(_FILE_ROUNDS, str(rounds))


def write_again(run: Path, database: Database, experiment: Experiment) -> None:
    """Make experiment.toml what is on record, where a change of that has not reached it."""
    if not database.get(_FILE_ROUNDS):
        return
    write_text(run / EXPERIMENT_FILE, to_toml(experiment), label="lengthened")
    database.put(_FILE_ROUNDS, "")
