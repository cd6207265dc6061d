"""The experiment that hostile peers meet."""

from pathlib import Path
from typing import Any

import tomli_w

TASK = Path(__file__).with_name("hostile_task.py")

HOSTILE: dict[str, Any] = {
    "seed": 11,
    "rounds": 3,
    "clients": 4,
    "clients_per_round": 4,
    "task": {"name": str(TASK)},
    "training": {"epochs": 1, "batch_size": 8, "lr": 0.1},
    "strategy": {"prune_rate": 0.31, "target_density": 0.2, "scope": "layer", "accuracy_threshold": 0.0},
    "round": {"lease": 600.0},
}
"""Every client prunes in every round, and no round is committed without all of them."""


def write_experiment(folder: Path, table: dict[str, Any]) -> Path:
    path = folder / "hostile.toml"
    path.write_text(tomli_w.dumps(table))
    return path
