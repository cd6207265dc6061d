"""Whole runs for scripts and notebooks: what the commands `simulate` and `run` are on a terminal."""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from lotteryfl.common.experiment.experiment import Experiment, load
from lotteryfl.common.telemetry.about import about
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.running.device import choose_device
from lotteryfl.running.local import run_locally
from lotteryfl.running.opened import OpenedRun, opened_new
from lotteryfl.running.owncode import OwnCode
from lotteryfl.running.ownthread import run_on_own_thread
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.results.summary import write_summary
from lotteryfl.server.results.view import RunView, open_run
from lotteryfl.server.strategies import add_strategies

_log = logging.getLogger("lotteryfl.workers")

Show = Callable[[pb.RunStatus], None]


def load_experiment(path: str | Path, overrides: Iterable[str] = ()) -> Experiment:
    """Read an experiment file.

    Args:
        path: the file; a task file named in it is found relative to it.
        overrides: settings in place of the file's, as `--set` takes them: "training.lr=0.05".

    Returns:
        The experiment as resolved, with a value for every key.

    Raises:
        LotteryFLError: the file cannot be read, or a key or value is wrong.
    """
    return load(Path(path), overrides)


def simulate(
    experiment: Experiment,
    run_dir: str | Path,
    *,
    device: str = "auto",
    tasks: Sequence[str] = (),
    strategies: Sequence[str] = (),
    local: Sequence[str] = (),
    share_errors: bool = False,
    any_task_version: bool = False,
    any_local_version: bool = False,
    show: Show | None = None,
) -> RunView:
    """Run an experiment in this one process, with the same bits as over gRPC.

    Sets torch's number of threads and its deterministic algorithms for the whole process, as the experiment has it.
    Interrupted, it goes on where it stood when it is called again with the same experiment and folder.

    Args:
        experiment: what `load_experiment` returned.
        run_dir: a new or empty folder, or one that holds this experiment's run: what is left of it is done.
        device: auto, cpu, cuda:0, …
        tasks: files and modules of tasks of your own to allow beside the experiment's.
        strategies: files and modules of strategies of your own.
        local: files and modules of local algorithms of your own, beside those in the strategies' files.
        share_errors: where privacy is promised, too, write on record what errors of a client's work say.
        any_task_version: go on, too, with another version of its task than run.db has on record.
        any_local_version: go on, too, with another version of its local algorithm.
        show: is called with the run's status whenever it may have changed.

    Returns:
        The finished run to look at; close it, or use it as a context manager.

    Raises:
        LotteryFLError: the experiment, the folder or the device cannot be used, or the run failed.
    """
    chosen = choose_device(device)
    return _driven(
        experiment,
        run_dir,
        OwnCode(tuple(tasks), tuple(strategies), any_task_version, tuple(local), any_local_version),
        lambda opened: Simulation(
            opened.directory, opened.task, chosen, share_errors=share_errors, local=opened.code
        ).run(show or _nothing),
    )


def run(
    experiment: Experiment,
    run_dir: str | Path,
    *,
    workers: int = 2,
    device: str = "auto",
    tasks: Sequence[str] = (),
    strategies: Sequence[str] = (),
    local: Sequence[str] = (),
    share_errors: bool = False,
    any_task_version: bool = False,
    any_local_version: bool = False,
    show: Show | None = None,
) -> RunView:
    """Run an experiment with worker processes on this machine.

    They are processes of the program, not of the caller's script: no `if __name__ == "__main__":` is needed, and a
    notebook may call it. Interrupted, it goes on where it stood when it is called again with the same experiment and
    folder.

    Args:
        experiment: what `load_experiment` returned.
        run_dir: a new or empty folder, or one that holds this experiment's run: what is left of it is done.
        workers: how many processes.
        device: cpu, cuda:0, …, for each of them; auto: they are spread over the accelerators that torch sees.
        tasks: files and modules of tasks of your own to allow beside the experiment's.
        strategies: files and modules of strategies of your own.
        local: files and modules of local algorithms of your own, beside those in the strategies' files.
        share_errors: where privacy is promised, too, write on record what errors of a client's work say.
        any_task_version: go on, too, with another version of its task than run.db has on record.
        any_local_version: go on, too, with another version of its local algorithm.
        show: is called with the run's status whenever it may have changed, on another thread.

    Returns:
        The finished run to look at; close it, or use it as a context manager.

    Raises:
        LotteryFLError: the experiment or the folder cannot be used, or the run failed.
    """
    return _driven(
        experiment,
        run_dir,
        OwnCode(tuple(tasks), tuple(strategies), any_task_version, tuple(local), any_local_version),
        lambda opened: run_on_own_thread(
            run_locally(
                opened.directory,
                workers,
                device,
                opened.of_workers,
                show or _nothing,
                _log.warning,
                share_errors=share_errors,
            )
        ),
    )


def _driven(experiment: Experiment, run_dir: str | Path, own: OwnCode, drive: Callable[[OpenedRun], None]) -> RunView:
    for source in own.strategies:
        add_strategies(source)
    with opened_new(experiment, Path(run_dir), own) as opened, about(run=opened.directory.run_id):
        if not opened.is_finished:
            drive(opened)
        write_summary(opened.directory)
    return open_run(run_dir)


def _nothing(_status: pb.RunStatus) -> None:
    """Show nothing."""
