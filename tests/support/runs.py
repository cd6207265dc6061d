"""Runs of a tiny experiment, and the same bits: what the fixtures of integration give, and what is asserted of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lotteryfl.server.results.summary import Summary
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.processes import Process

GATED_TASK = Path(__file__).with_name("gated_task.py")
Start = Callable[..., Process]
Write = Callable[..., Path]
Coordinate = Callable[..., CoordinatorThread]
Expect = Callable[[Path], Summary]

GATED: dict[str, Any] = {
    "seed": 7,
    "rounds": 3,
    "clients": 4,
    "clients_per_round": 3,
    "task": {"name": str(GATED_TASK)},
    "training": {"epochs": 2, "batch_size": 8, "lr": 0.1, "momentum": 0.5},
    "strategy": {"prune_rate": 0.3, "target_density": 0.5, "accuracy_threshold": 0.0},
    "round": {"lease": 600.0},
}
"""Every client prunes every time, and meets its target in the second."""


def read_summary(folder: Path) -> Summary:
    """Read what a finished run has come to."""
    summary: Summary = json.loads((folder / "summary.json").read_text())
    return summary


def assert_same_bits(folder: Path, expected: Summary) -> None:
    """Compare the summary of a run's folder; bytes may differ, as messages have frames."""
    found = read_summary(folder)
    assert {**found, "bytes": None} == {**expected, "bytes": None}
