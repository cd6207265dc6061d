"""Runs as they are opened to be driven: new ones, and those that go on."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.tasks import Task, load_task, own_sources
from lotteryfl.server.rounds.longer import with_settings
from lotteryfl.server.rounds.setup import open_or_create_run
from lotteryfl.server.rounds.taskversion import bind_task
from lotteryfl.server.store.extension import lengthen
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
    any_task_version: bool = False
    """Other versions of the task than the run's may take part."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.directory.state == "finished"

    def command(self, verb: str, *options: str) -> str:
        """Return the command that goes on with the run."""
        own = (*(f"--task={task}" for task in self.tasks), *(f"--strategy={each}" for each in self.strategies))
        own += ("--any-task-version",) * self.any_task_version
        return shlex.join(["lotteryfl", verb, str(self.directory.path), *options, *own])


@contextmanager
def opened_new(
    experiment: Experiment,
    run_dir: Path,
    tasks: Sequence[str] = (),
    strategies: Sequence[str] = (),
    *,
    any_task_version: bool = False,
) -> Iterator[OpenedRun]:
    """Open the run of an experiment: it is set up, unless the folder holds it already.

    The experiment's own task and model are allowed: their author named them here.

    Raises:
        LotteryFLError: the folder holds something else, or the experiment or its task cannot be used, or the task is
            another version than that of the run in the folder.
    """
    tasks = (*own_sources(experiment), *tasks)
    with open_or_create_run(run_dir, experiment, tasks) as directory:
        task = load_task(directory.experiment, tasks)
        bind_task(directory, task, any_version=any_task_version)
        yield OpenedRun(directory, task, tuple(tasks), tuple(strategies), any_task_version)


@contextmanager
def opened_again(
    run_dir: Path,
    tasks: Sequence[str] = (),
    strategies: Sequence[str] = (),
    overrides: Sequence[str] = (),
    *,
    any_task_version: bool = False,
) -> Iterator[OpenedRun]:
    """Open the run in a run directory, perhaps somebody else's: it only chooses among the tasks that are allowed.

    With `overrides` of more `rounds` than it has, it is made longer.

    Raises:
        LotteryFLError: there is no run, another process is running it, its task is not allowed here or another
            version than the run's, or an override is not what it has.
    """
    with RunDirectory(run_dir) as directory:
        experiment = with_settings(directory, overrides)
        task = load_task(experiment, tasks)
        bind_task(directory, task, any_version=any_task_version)
        if experiment != directory.experiment:
            lengthen(directory, experiment.rounds)
        yield OpenedRun(directory, task, tuple(tasks), tuple(strategies), any_task_version)
