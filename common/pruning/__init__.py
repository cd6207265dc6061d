"""Pruning models in place with `torch.nn.utils.prune`: masks, rewinding, what is pruned and how much is left."""

from typing import TYPE_CHECKING

from lotteryfl.common.lazy import front

if TYPE_CHECKING:
    from lotteryfl.common.pruning.parameters import copy_model, copy_weights, load_tensors, named_masks, named_tensors
    from lotteryfl.common.pruning.prunable import Prunable
    from lotteryfl.common.pruning.prune import (
        Scope,
        apply_masks,
        density,
        get_prune_params,
        get_prune_summary,
        make_permanent,
        prune_fixed_amount,
        rewind,
    )
    from lotteryfl.common.pruning.summary import PruneSummary

__all__ = [
    "Prunable",
    "PruneSummary",
    "Scope",
    "apply_masks",
    "copy_model",
    "copy_weights",
    "density",
    "get_prune_params",
    "get_prune_summary",
    "load_tensors",
    "make_permanent",
    "named_masks",
    "named_tensors",
    "prune_fixed_amount",
    "rewind",
]

__getattr__, __dir__ = front(
    __name__,
    {
        "Prunable": "prunable",
        "PruneSummary": "summary",
        "Scope": "prune",
        "apply_masks": "prune",
        "copy_model": "parameters",
        "copy_weights": "parameters",
        "density": "prune",
        "get_prune_params": "prune",
        "get_prune_summary": "prune",
        "load_tensors": "parameters",
        "make_permanent": "prune",
        "named_masks": "parameters",
        "named_tensors": "parameters",
        "prune_fixed_amount": "prune",
        "rewind": "prune",
    },
)
