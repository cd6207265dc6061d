"""Event files for TensorBoard."""

import json
from collections.abc import Sequence
from pathlib import Path

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.server.results.exporters.scalars import scalars, settings
from lotteryfl.server.results.reporting.data import RunData


def export_to_tensorboard(runs: Sequence[RunData], target: str) -> None:
    """Write each run's metrics into a folder of its own name below `target`: a figure's step is the round.

    Raises:
        LotteryFLError: tensorboard is not installed, or the folder cannot be written.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise LotteryFLError("--tensorboard needs tensorboard: pip install 'lotteryfl[tensorboard]'") from error
    for run in runs:
        try:
            with SummaryWriter(str(Path(target) / run.name)) as writer:
                writer.add_text("experiment", f"```\n{json.dumps(settings(run), indent=2)}\n```")
                for step, values in scalars(run):
                    for name, value in values.items():
                        writer.add_scalar(name, value, step)
        except OSError as error:
            raise LotteryFLError(f"--tensorboard {target}: cannot be written: {error.strerror or error}") from error
