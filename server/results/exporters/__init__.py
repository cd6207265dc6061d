"""A run's metrics for the trackers that people use: each exporter takes the runs and where to."""

from collections.abc import Callable, Mapping, Sequence

from lotteryfl.server.results.exporters.mlflow import export_to_mlflow
from lotteryfl.server.results.exporters.tensorboard import export_to_tensorboard
from lotteryfl.server.results.exporters.wandb import export_to_wandb
from lotteryfl.server.results.reporting.data import RunData

EXPORTERS: Mapping[str, Callable[[Sequence[RunData], str], None]] = {
    "tensorboard": export_to_tensorboard,
    "mlflow": export_to_mlflow,
    "wandb": export_to_wandb,
}
"""What writes runs elsewhere, by the name of `lotteryfl report`'s option."""
