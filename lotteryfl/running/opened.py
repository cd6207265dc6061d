"""Runs as they are opened to be driven: new ones, and those that go on."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lotteryfl.client.local.files import LocalCode, load_local
from lotteryfl.common.errors import LocalAlgorithmError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.tasks import Task, load_task, own_sources
from lotteryfl.server.rounds.codeversion import bind_local, bind_task
from lotteryfl.server.rounds.longer import with_settings
from lotteryfl.server.rounds.setup import open_or_create_run
from lotteryfl.server.store.extension import lengthen
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.strategies import STRATEGIES


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
    local: tuple[str, ...] = ()
    """Files and modules of local algorithms that are allowed here."""
    any_local_version: bool = False
    """Other versions of the local algorithm than the run's may take part."""
    code: LocalCode | None = None
    """The strategy's local algorithm; None: it has none."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.directory.state == "finished"

    @property
    def local_of_workers(self) -> Sequence[str]:
        """The file or module of the local algorithm that its workers are to have, if they do not have it anyway."""
        return (self.code.source,) if self.code and self.code.source else ()

    def command(self, verb: str, *options: str) -> str:
        """Return the command that goes on with the run."""
        own = (*(f"--task={task}" for task in self.tasks), *(f"--strategy={each}" for each in self.strategies))
        own += ("--any-task-version",) * self.any_task_version
        own += tuple(f"--local={each}" for each in self.local)
        own += ("--any-local-version",) * self.any_local_version
        return shlex.join(["lotteryfl", verb, str(self.directory.path), *options, *own])


@contextmanager
def opened_new(
    experiment: Experiment,
    run_dir: Path,
    tasks: Sequence[str] = (),
    strategies: Sequence[str] = (),
    *,
    any_task_version: bool = False,
    local: Sequence[str] = (),
    any_local_version: bool = False,
) -> Iterator[OpenedRun]:
    """Open the run of an experiment: it is set up, unless the folder holds it already.

    The experiment's own task and model are allowed: their author named them here.

    Raises:
        LotteryFLError: the folder holds something else, or the experiment or its task cannot be used, or the task, or
            the strategy's local algorithm, is another version than that of the run in the folder.
    """
    tasks, code = (*own_sources(experiment), *tasks), _local_code(experiment, strategies, local)
    with open_or_create_run(run_dir, experiment, tasks) as directory:
        task = load_task(directory.experiment, tasks)
        bind_task(directory, task, any_version=any_task_version)
        _bind(directory, code, any_version=any_local_version)
        yield OpenedRun(
            directory, task, tasks, tuple(strategies), any_task_version, tuple(local), any_local_version, code
        )


@contextmanager
def opened_again(
    run_dir: Path,
    tasks: Sequence[str] = (),
    strategies: Sequence[str] = (),
    overrides: Sequence[str] = (),
    *,
    any_task_version: bool = False,
    local: Sequence[str] = (),
    any_local_version: bool = False,
) -> Iterator[OpenedRun]:
    """Open the run in a run directory, perhaps somebody else's: it only chooses among the tasks that are allowed.

    With `overrides` of more `rounds` than it has, it is made longer.

    Raises:
        LotteryFLError: there is no run, another process is running it, its task or its strategy's local algorithm is
            not allowed here or another version than the run's, or an override is not what it has.
    """
    with RunDirectory(run_dir) as directory:
        experiment = with_settings(directory, overrides)
        task = load_task(experiment, tasks)
        bind_task(directory, task, any_version=any_task_version)
        goes_on = directory.state != "finished" or experiment != directory.experiment
        code = _local_code(experiment, strategies, local) if goes_on else None
        _bind(directory, code, any_version=any_local_version)
        if experiment != directory.experiment:
            lengthen(directory, experiment.rounds)
        yield OpenedRun(
            directory, task, tuple(tasks), tuple(strategies), any_task_version, tuple(local), any_local_version, code
        )


def _local_code(experiment: Experiment, strategies: Sequence[str], local: Sequence[str]) -> LocalCode | None:
    """Return the local algorithm of an experiment's strategy, from whichever file or built in; None: it has none."""
    kind = STRATEGIES.get(experiment.strategy.name)
    name = kind.local if kind else ""
    found = load_local(local, strategies if name else ()) if name or local else {}
    if name and name not in found:
        raise LocalAlgorithmError(
            f"strategy.name = {experiment.strategy.name!r}: its local algorithm {name!r} is not here: name its "
            "file with --local"
        )
    return found[name] if name else None


def _bind(run: RunDirectory, code: LocalCode | None, *, any_version: bool) -> None:
    if code is not None:
        bind_local(run, code.name, code.version, any_version=any_version)
