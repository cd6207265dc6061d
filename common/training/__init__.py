"""Local training and evaluation of a model, pruned or not."""

from typing import TYPE_CHECKING

from lotteryfl.common.lazy import front

if TYPE_CHECKING:
    from lotteryfl.common.training.given import Data
    from lotteryfl.common.training.loop import Loss, TrainResult, evaluate, train
    from lotteryfl.common.training.metrics import Metrics

__all__ = [
    "Data",
    "Loss",
    "Metrics",
    "TrainResult",
    "evaluate",
    "train",
]

__getattr__, __dir__ = front(
    __name__,
    {
        "Data": "given",
        "Loss": "loop",
        "Metrics": "metrics",
        "TrainResult": "loop",
        "evaluate": "loop",
        "train": "loop",
    },
)
