"""Local training and evaluation of a model, pruned or not."""

from typing import TYPE_CHECKING

from lotteryfl.common.lazy import front

if TYPE_CHECKING:
    from lotteryfl.common.training.evaluation import evaluate
    from lotteryfl.common.training.given import Data
    from lotteryfl.common.training.loop import TrainResult, train
    from lotteryfl.common.training.measured import Evaluated
    from lotteryfl.common.training.metrics import Metrics
    from lotteryfl.common.training.objective import Loss, Objective

__all__ = [
    "Data",
    "Evaluated",
    "Loss",
    "Metrics",
    "Objective",
    "TrainResult",
    "evaluate",
    "train",
]

__getattr__, __dir__ = front(
    __name__,
    {
        "Data": "given",
        "Evaluated": "measured",
        "Loss": "objective",
        "Metrics": "metrics",
        "Objective": "objective",
        "TrainResult": "loop",
        "evaluate": "evaluation",
        "train": "loop",
    },
)
