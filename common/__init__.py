"""What coordinator and worker share; the functions for working with tickets are reachable right here.

They are imported on first use, so that `import common` costs nothing: torch alone takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from common.models import create_model
    from common.parameters import copy_model, copy_weights
    from common.pruning import (
        apply_masks,
        density,
        get_prune_params,
        get_prune_summary,
        make_permanent,
        prune_fixed_amount,
        rewind,
    )
    from common.training import evaluate, train

_HOMES = {
    "apply_masks": "common.pruning",
    "copy_model": "common.parameters",
    "copy_weights": "common.parameters",
    "create_model": "common.models",
    "density": "common.pruning",
    "evaluate": "common.training",
    "get_prune_params": "common.pruning",
    "get_prune_summary": "common.pruning",
    "make_permanent": "common.pruning",
    "prune_fixed_amount": "common.pruning",
    "rewind": "common.pruning",
    "train": "common.training",
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
