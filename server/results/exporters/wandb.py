"""Runs for Weights & Biases."""

from collections.abc import Sequence

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.taskid import task_id
from lotteryfl.server.results.exporters.scalars import scalars, settings
from lotteryfl.server.results.reporting.data import RunData


def export_to_wandb(runs: Sequence[RunData], target: str) -> None:
    """Log each run to the project `target`, in a group called after the task.

    Raises:
        LotteryFLError: wandb is not installed, or the service cannot be used.
    """
    try:
        import wandb
    except ImportError as error:
        raise LotteryFLError("--wandb needs wandb: pip install 'lotteryfl[wandb]'") from error
    try:
        for run in runs:
            group = task_id(run.experiment.task.name)
            with wandb.init(project=target, name=run.name, group=group, config=settings(run)) as logged:
                for step, values in scalars(run):
                    logged.log(values, step=step)
    except (wandb.Error, OSError) as error:
        raise LotteryFLError(f"--wandb {target}: {error}") from error
