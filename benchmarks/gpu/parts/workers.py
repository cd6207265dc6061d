"""Seconds of an assignment, and how busy the card is, by the number of workers on one card."""

from collections.abc import Iterator
from math import nan
from statistics import mean

import torch

from benchmarks.gpu.machine import Busy
from benchmarks.gpu.row import Row
from benchmarks.gpu.runs import Pace, Setting, experiment, worked

SECONDS = 80.0

WORKERS = (1, 2, 4, 8)
CLIENTS = 16
ROUNDS = 3
GOAL = 0.8
"""Of the card's time, with as many workers as are fastest."""


def rows(setting: Setting) -> Iterator[Row]:
    """Run the same rounds with ever more workers; the first, of which most is starting, does not count."""
    architecture, examples, clients = ("cnn", 20, 2) if setting.quick else ("resnet18", 500, CLIENTS)
    of = experiment(
        architecture, examples, rounds=ROUNDS, clients=clients, clients_per_round=clients, strategy={"name": "fedavg"}
    )
    found: dict[float, float | None] = {}
    for workers in WORKERS[:2] if setting.quick else WORKERS:
        pace, busy = Pace(), Busy(torch.device(setting.device))
        with busy:
            worked(setting, of, workers, pace=pace)
        taken = mean(pace.seconds().get(round_, nan) for round_ in range(1, ROUNDS))
        steps = clients * -(-examples // 16)
        found[taken] = busy.share
        yield Row(
            f"{architecture}, {examples} examples in batches of 16: {workers} workers",
            f"{taken / clients:.3f} s an assignment, {steps / taken:,.0f} steps/s; {busy}",
        )
    share = found[min(found)]
    shown = "not measured" if share is None else f"{share:.0%}"
    yield Row(
        "busy with as many workers as were fastest", shown, None if share is None else share >= GOAL, f"≥ {GOAL:.0%}"
    )
