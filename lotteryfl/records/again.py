"""The experiment of a record, run once more here; of code it takes what this machine's operator has named, no other."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from lotteryfl.common.errors import ExperimentError, LotteryFLError
from lotteryfl.common.experiment.experiment import Experiment, changed
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.records.making import record_of
from lotteryfl.records.record import Record
from lotteryfl.running.device import choose_device
from lotteryfl.running.opened import opened_again
from lotteryfl.running.owncode import OwnCode
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.results.summary import write_summary
from lotteryfl.server.rounds.setup import create_run

_PLACES = ("task.data_dir", "task.initial", "partition.file")
"""Keys that say where files are: whoever runs an experiment says it for himself."""


def run_again(
    record: Record, own: OwnCode, overrides: Sequence[str], device: str, show: Callable[[pb.RunStatus], None]
) -> Record:
    """Run the experiment of a record in a folder that is gone afterwards, and return the record of that run.

    Args:
        record: whose.
        own: tasks, strategies and local algorithms that may be used, where it needs any.
        overrides: where files are here, and what is withheld in the record, as `section.key=value`.
        device: auto, cpu, cuda:0, …
        show: is called with the run's status.

    Raises:
        LotteryFLError: it cannot have the same bits, something that it needs is not here, or the run fails.
    """
    experiment = completed(record, overrides)
    chosen = choose_device(device)
    with tempfile.TemporaryDirectory(prefix="lotteryfl-again-") as folder:
        path = Path(folder) / "run"
        create_run(path, experiment, own.tasks).close()
        with opened_again(path, own) as opened:
            Simulation(opened.directory, opened.task, chosen, local=opened.code).run(show)
            write_summary(opened.directory)
        return record_of(path)


def completed(record: Record, overrides: Sequence[str]) -> Experiment:
    """Return the experiment of a record with what it does not tell.

    Raises:
        LotteryFLError: it cannot have the same bits, or a setting is missing, or one too many.
    """
    experiment = record.experiment
    if record.bits_depend_on:
        raise LotteryFLError(f"--rerun: the run's bits depend on {record.bits_depend_on}, and no run has them again")
    if experiment.privacy.is_promised:
        raise LotteryFLError("--rerun: the run had noise for privacy, which is never the same: nothing can be compared")
    keys = [override.partition("=")[0].strip() for override in overrides]
    free = sorted({*_PLACES, *record.withheld})
    if wrong := [key for key in keys if key not in free]:
        raise ExperimentError(f"--set {wrong[0]}: the record's experiment is run as it is: expected {', '.join(free)}")
    needed = [*record.withheld, *(["partition.file"] if experiment.partition.kind == "file" else [])]
    if missing := [key for key in needed if key not in keys]:
        raise ExperimentError(f"--rerun: the record does not tell {missing[0]}: give it by --set {missing[0]}=…")
    return changed(experiment, overrides)
