"""Federated training of sparse, personalised models: what users import."""

from typing import TYPE_CHECKING

from lotteryfl.common.lazy import front

if TYPE_CHECKING:
    from lotteryfl.common.models import create_model
    from lotteryfl.common.pruning.parameters import copy_model, copy_weights
    from lotteryfl.common.pruning.prune import (
        apply_masks,
        density,
        get_prune_params,
        get_prune_summary,
        make_permanent,
        prune_fixed_amount,
        rewind,
    )
    from lotteryfl.common.training.loop import evaluate, train

__all__ = [
    "apply_masks",
    "copy_model",
    "copy_weights",
    "create_model",
    "density",
    "evaluate",
    "get_prune_params",
    "get_prune_summary",
    "make_permanent",
    "prune_fixed_amount",
    "rewind",
    "train",
]

__getattr__, __dir__ = front(
    __name__,
    {
        "apply_masks": "common.pruning.prune",
        "copy_model": "common.pruning.parameters",
        "copy_weights": "common.pruning.parameters",
        "create_model": "common.models",
        "density": "common.pruning.prune",
        "evaluate": "common.training.loop",
        "get_prune_params": "common.pruning.prune",
        "get_prune_summary": "common.pruning.prune",
        "make_permanent": "common.pruning.prune",
        "prune_fixed_amount": "common.pruning.prune",
        "rewind": "common.pruning.prune",
        "train": "common.training.loop",
    },
)
