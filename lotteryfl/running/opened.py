"""Runs as they are opened to be driven: new ones, and those that go on."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lotteryfl.client.local.files import LocalCode, load_local
from lotteryfl.common.errors import LocalAlgorithmError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.tasks import Task, load_task, own_sources
from lotteryfl.running.owncode import OwnCode
from lotteryfl.server.rounds.codeversion import bind_local, bind_task
from lotteryfl.server.rounds.longer import with_settings
from lotteryfl.server.rounds.setup import open_or_create_run
from lotteryfl.server.store.extension import lengthen
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.strategies import STRATEGIES

_NONE = OwnCode()


@dataclass(frozen=True)
class OpenedRun:
    """A run, and the user's own code that it may need."""

    directory: RunDirectory
    task: Task
    own: OwnCode = _NONE
    """Which of it is allowed here."""
    code: LocalCode | None = None
    """The strategy's local algorithm; None: it has none."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.directory.state == "finished"

    @property
    def of_workers(self) -> OwnCode:
        """What its workers are told: of local algorithms the one that they may not have anyway, and of no strategy."""
        local = (self.code.source,) if self.code and self.code.source else ()
        return replace(self.own, strategies=(), local=local)

    def command(self, verb: str, *options: str) -> str:
        """Return the command that goes on with the run."""
        return shlex.join(["lotteryfl", verb, str(self.directory.path), *options, *self.own.options])


@contextmanager
def opened_new(
    experiment: Experiment,
    run_dir: Path,
    own: OwnCode = _NONE,
) -> Iterator[OpenedRun]:
    """Open the run of an experiment: it is set up, unless the folder holds it already.

    The experiment's own task and model are allowed: their author named them here.

    Raises:
        LotteryFLError: the folder holds something else, or the experiment or its task cannot be used, or the task, or
            the strategy's local algorithm, is another version than that of the run in the folder.
    """
    own, code = replace(own, tasks=(*own_sources(experiment), *own.tasks)), _local_code(experiment, own)
    with open_or_create_run(run_dir, experiment, own.tasks) as directory:
        task = load_task(directory.experiment, own.tasks)
        _bind(directory, task, code, own)
        yield OpenedRun(directory, task, own, code)


@contextmanager
def opened_again(
    run_dir: Path,
    own: OwnCode = _NONE,
    overrides: Sequence[str] = (),
) -> Iterator[OpenedRun]:
    """Open the run in a run directory, perhaps somebody else's: it only chooses among the tasks that are allowed.

    With `overrides` of more `rounds` than it has, it is made longer.

    Raises:
        LotteryFLError: there is no run, another process is running it, its task or its strategy's local algorithm is
            not allowed here or another version than the run's, or an override is not what it has.
    """
    with RunDirectory(run_dir) as directory:
        experiment = with_settings(directory, overrides)
        task = load_task(experiment, own.tasks)
        goes_on = directory.state != "finished" or experiment != directory.experiment
        code = _local_code(experiment, own) if goes_on else None
        _bind(directory, task, code, own)
        if experiment != directory.experiment:
            lengthen(directory, experiment.rounds)
        yield OpenedRun(directory, task, own, code)


def _local_code(experiment: Experiment, own: OwnCode) -> LocalCode | None:
    """Return the local algorithm of an experiment's strategy, from whichever file or built in; None: it has none."""
    kind = STRATEGIES.get(experiment.strategy.name)
    name = kind.local if kind else ""
    found = load_local(own.local, own.strategies if name else ()) if name or own.local else {}
    if name and name not in found:
        raise LocalAlgorithmError(
            f"strategy.name = {experiment.strategy.name!r}: its local algorithm {name!r} is not here: name its "
            "file with --local"
        )
    return found[name] if name else None


def _bind(run: RunDirectory, task: Task, code: LocalCode | None, own: OwnCode) -> None:
    bind_task(run, task, any_version=own.any_task_version)
    if code is not None:
        bind_local(run, code.name, code.version, any_version=own.any_local_version)
