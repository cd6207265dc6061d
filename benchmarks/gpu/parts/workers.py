"""Seconds of an assignment, and how busy the card is, by the number of workers on it; then with 500 small clients."""

from collections.abc import Iterator
from math import ceil, nan
from statistics import mean

import torch

from benchmarks.gpu.machine import Busy
from benchmarks.gpu.row import Row
from benchmarks.gpu.runs import Pace, Setting, experiment, worked
from lotteryfl.common.experiment.experiment import Experiment

SECONDS = 150.0

WORKERS = (1, 2, 4, 8)
GOAL = 0.8
"""Of the card's time, with many small clients."""


def rows(setting: Setting) -> Iterator[Row]:
    """Run the same rounds with ever more workers, then many small clients with as many."""
    architecture, examples, clients = ("cnn", 20, 2) if setting.quick else ("resnet18", 500, 16)
    of = _rounds(architecture, examples, clients, rounds=3)
    for workers in WORKERS[:2] if setting.quick else WORKERS:
        taken, busy = _taken(setting, of, workers)
        what = f"{architecture}, {examples} examples in batches of 16: {workers} workers"
        rate = clients * ceil(examples / 16) / taken
        yield Row(what, f"{taken / clients:.3f} s an assignment, {rate:,.0f} steps/s; {busy}")
    clients, workers = (6, 2) if setting.quick else (500, 8)
    taken, busy = _taken(setting, _rounds("cnn", 50, clients, rounds=2), workers)
    is_met = None if busy.share is None else busy.share >= GOAL
    what = f"cnn, {clients} clients of 50 examples: {workers} workers"
    yield Row(what, f"{taken / clients:.4f} s an assignment; {busy}", is_met, f"busy ≥ {GOAL:.0%}")


def _rounds(architecture: str, examples: int, clients: int, *, rounds: int) -> Experiment:
    return experiment(
        architecture,
        examples,
        rounds=rounds,
        clients=clients,
        clients_per_round=clients,
        strategy={"name": "fedavg"},
    )


def _taken(setting: Setting, of: Experiment, workers: int) -> tuple[float, Busy]:
    """Return the seconds of a round; the first, of which most is starting, does not count."""
    pace, busy = Pace(), Busy(torch.device(setting.device))
    with busy:
        worked(setting, of, workers, pace=pace)
    seconds = pace.seconds()
    return mean(seconds.get(round_, nan) for round_ in range(1, of.rounds)), busy
