"""Where an assignment's time goes: each stage waited for, in one process, its data kept."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch

from benchmarks.gpu.machine import forget_peak, peak_mib, synchronize
from benchmarks.gpu.row import Row
from benchmarks.gpu.runs import Setting, experiment, simulated
from lotteryfl.client.work import assignment as work
from lotteryfl.client.work.keptdata import KeptData
from lotteryfl.client.work.planrun import PlanRun
from lotteryfl.client.work.workplace import Workplace

SECONDS = 20.0

STAGES: dict[str, tuple[Any, str]] = {
    "copy of the model": (work.AssignmentRunner, "new_workplace"),
    "data": (KeptData, "of"),
    "look at the data": (work.AssignmentRunner, "_look_at"),
    "values and masks into the model": (work.AssignmentRunner, "_load"),
    "evaluations": (Workplace, "evaluate"),
    "pruning and rewinding": (PlanRun, "_prune"),
    "training": (Workplace, "train"),
    "packing": (work, "packed"),
    "values to the host": (work, "to_host"),
    "all but arrival": (work.AssignmentRunner, "follow"),
}
"""Functions that are timed; what the gate of a pruning evaluates counts in both."""


def rows(setting: Setting) -> Iterator[Row]:
    """Run two rounds of pruning clients, and divide by their assignments."""
    device = torch.device(setting.device)
    architecture, examples = ("cnn", 20) if setting.quick else ("resnet18", 500)
    spent: dict[str, list[float]] = defaultdict(list)
    found = {(owner, name): getattr(owner, name) for owner, name in STAGES.values()}
    forget_peak(device)
    try:
        for stage, (owner, name) in STAGES.items():
            setattr(owner, name, _timed(found[owner, name], spent[stage], device))
        simulated(setting, experiment(architecture, examples, rounds=2))
    finally:
        for (owner, name), function in found.items():
            setattr(owner, name, function)
    assignments = len(spent["all but arrival"])
    for stage, seconds in spent.items():
        yield Row(
            f"{architecture}, {examples} examples: {stage}",
            f"{1000 * sum(seconds) / assignments:,.1f} ms an assignment",
        )
    yield Row("memory at the peak", peak_mib(device))


def _timed(function: Callable[..., Any], spent: list[float], device: torch.device) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        synchronize(device)
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            synchronize(device)
            spent.append(time.perf_counter() - start)

    return call
