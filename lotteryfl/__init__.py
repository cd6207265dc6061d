"""Federated training of sparse, personalised models: what users import.

Names are imported on first use, so that `import lotteryfl` costs nothing: torch alone takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING

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

_HOMES = {
    "apply_masks": "lotteryfl.common.pruning.prune",
    "copy_model": "lotteryfl.common.pruning.parameters",
    "copy_weights": "lotteryfl.common.pruning.parameters",
    "create_model": "lotteryfl.common.models",
    "density": "lotteryfl.common.pruning.prune",
    "evaluate": "lotteryfl.common.training.loop",
    "get_prune_params": "lotteryfl.common.pruning.prune",
    "get_prune_summary": "lotteryfl.common.pruning.prune",
    "make_permanent": "lotteryfl.common.pruning.prune",
    "prune_fixed_amount": "lotteryfl.common.pruning.prune",
    "rewind": "lotteryfl.common.pruning.prune",
    "train": "lotteryfl.common.training.loop",
}

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


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
