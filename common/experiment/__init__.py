"""The experiment file: what a run is, key by key."""

from typing import TYPE_CHECKING

from lotteryfl.common.lazy import front

if TYPE_CHECKING:
    from lotteryfl.common.experiment.experiment import Experiment, from_json, load, to_toml, validate

__all__ = [
    "Experiment",
    "from_json",
    "load",
    "to_toml",
    "validate",
]

__getattr__, __dir__ = front(
    __name__,
    {
        "Experiment": "experiment",
        "from_json": "experiment",
        "load": "experiment",
        "to_toml": "experiment",
        "validate": "experiment",
    },
)
