"""Runs for MLflow."""

from collections.abc import Sequence

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.taskid import task_id
from lotteryfl.server.results.exporters.scalars import scalars, settings
from lotteryfl.server.results.reporting.data import RunData


def export_to_mlflow(runs: Sequence[RunData], target: str) -> None:
    """Log each run to the tracking server or folder `target`, in an experiment called after the task.

    Raises:
        LotteryFLError: mlflow is not installed, or the server refuses.
    """
    try:
        import mlflow
    except ImportError as error:
        raise LotteryFLError("--mlflow needs mlflow: pip install 'lotteryfl[mlflow]'") from error
    try:
        mlflow.set_tracking_uri(target)
        for run in runs:
            mlflow.set_experiment(f"lotteryfl {task_id(run.experiment.task.name)}")
            with mlflow.start_run(run_name=run.name):
                mlflow.log_params(settings(run))
                for step, values in scalars(run):
                    mlflow.log_metrics(values, step=step)
    except (mlflow.MlflowException, OSError) as error:
        raise LotteryFLError(f"--mlflow {target}: {error}") from error
