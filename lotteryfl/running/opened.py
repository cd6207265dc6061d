"""Runs as they are opened to be driven: new ones, and those that go on."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.tasks import Task, load_task, own_sources
from lotteryfl.server.rounds.setup import open_or_create_run
from lotteryfl.server.store.rundir import RunDirectory


@dataclass(frozen=True)
class OpenedRun:
    """A run, and the user's own code that it may need."""

    directory: RunDirectory
    task: Task
    tasks: tuple[str, ...]
    """Files and modules of tasks that are allowed here."""
    strategies: tuple[str, ...] = ()
    """Files and modules of strategies that were added here."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.directory.state == "finished"

    def command(self, verb: str, *options: str) -> str:
        """Return the command that goes on with the run."""
        own = (*(f"--task={task}" for task in self.tasks), *(f"--strategy={each}" for each in self.strategies))
        return shlex.join(["lotteryfl", verb, str(self.directory.path), *options, *own])


@contextmanager
def opened_new(
    experiment: Experiment, run_dir: Path, tasks: Sequence[str] = (), strategies: Sequence[str] = ()
) -> Iterator[OpenedRun]:
    """Open the run of an experiment: it is set up, unless the folder holds it already.

    The experiment's own task and model are allowed: their author named them here.

    Raises:
        LotteryFLError: the folder holds something else, or the experiment or its task cannot be used.
    """
    tasks = (*own_sources(experiment), *tasks)
    with open_or_create_run(run_dir, experiment, tasks) as directory:
        yield _opened(directory, tasks, strategies)


@contextmanager
def opened_again(run_dir: Path, tasks: Sequence[str] = (), strategies: Sequence[str] = ()) -> Iterator[OpenedRun]:
    """Open the run in a run directory, perhaps somebody else's: it only chooses among the tasks that are allowed.

    Raises:
        LotteryFLError: there is no run, another process is running it, or its task is not allowed here.
    """
    with RunDirectory(run_dir) as directory:
        yield _opened(directory, tasks, strategies)


def _opened(directory: RunDirectory, tasks: Sequence[str], strategies: Sequence[str]) -> OpenedRun:
    return OpenedRun(directory, load_task(directory.experiment, tasks), tuple(tasks), tuple(strategies))
