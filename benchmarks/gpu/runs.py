"""Whole runs on the device, by the program's own functions."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lotteryfl
from lotteryfl.common.experiment.experiment import Experiment, validate
from lotteryfl.protos import lotteryfl_pb2 as pb

TASK = str(Path(__file__).with_name("images.py"))


@dataclass(frozen=True)
class Setting:
    """What is checked, and how thoroughly."""

    device: str
    quick: bool
    """In small: it shows that a part works, and nothing else."""


@dataclass
class Pace:
    """When each round of a run began."""

    began: dict[int, float] = field(default_factory=dict)

    def __call__(self, status: pb.RunStatus) -> None:
        """Be shown the run."""
        self.began.setdefault(status.round, time.monotonic())
        if status.state == pb.RunStatus.FINISHED:
            self.began.setdefault(status.round + 1, time.monotonic())

    def seconds(self) -> dict[int, float]:
        """Return how long every round took that another one followed."""
        return {n: self.began[n + 1] - start for n, start in self.began.items() if n + 1 in self.began}


def experiment(architecture: str, examples: int, **changes: Any) -> Experiment:
    """Return an experiment on random images; sections are changed key by key."""
    table: dict[str, Any] = {
        "rounds": 3,
        "clients": 4,
        "clients_per_round": 4,
        "task": {"name": TASK, "options": {"architecture": architecture, "examples": examples}},
        "training": {"epochs": 1, "batch_size": 16, "lr": 0.01},
        "strategy": {"prune_rate": 0.3, "target_density": 0.2, "accuracy_threshold": 0.0},
        "round": {"lease": 120.0},
    }
    for key, value in changes.items():
        table[key] = {**table.get(key, {}), **value} if isinstance(value, Mapping) else value
    return validate(table, "gpu-check")


def simulated(setting: Setting, of: Experiment, tasks: tuple[str, ...] = (TASK,)) -> dict[str, Any]:
    """Return the summary of a run in this process."""
    with (
        TemporaryDirectory() as folder,
        lotteryfl.simulate(of, Path(folder) / "run", device=setting.device, tasks=tasks) as view,
    ):
        return dict(view.summary())


def worked(
    setting: Setting, of: Experiment, workers: int, tasks: tuple[str, ...] = (TASK,), pace: Pace | None = None
) -> dict[str, Any]:
    """Return the summary of a run of worker processes."""
    with (
        TemporaryDirectory() as folder,
        lotteryfl.run(of, Path(folder) / "run", workers=workers, device=setting.device, tasks=tasks, show=pace) as view,
    ):
        return dict(view.summary())


def bits(summary: Mapping[str, Any]) -> str:
    """Return what is the same where all bits are."""
    return f"{summary['model_sha256']} {summary['tickets_sha256']}"
