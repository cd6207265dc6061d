"""Many small clients trained as one model with a client dimension, by how many are stacked: one worker, one card."""

from collections.abc import Iterator
from math import nan
from statistics import mean

import torch

from benchmarks.gpu.machine import Busy
from benchmarks.gpu.row import Row
from benchmarks.gpu.runs import Pace, Setting, experiment, worked

SECONDS = 80.0

STACKED = (1, 8, 32)
CLIENTS = 64
ROUNDS = 3


def rows(setting: Setting) -> Iterator[Row]:
    """Run the same rounds with ever more clients to a model; the first, of which most is starting, does not count."""
    examples, clients = (20, 4) if setting.quick else (100, CLIENTS)
    for stacked in STACKED[:2] if setting.quick else STACKED:
        of = experiment(
            "cnn",
            examples,
            rounds=ROUNDS,
            clients=clients,
            clients_per_round=clients,
            strategy={"name": "fedavg"},
            engine={"stacked": stacked},
        )
        pace, busy = Pace(), Busy(torch.device(setting.device))
        with busy:
            worked(setting, of, 1, pace=pace)
        taken = mean(pace.seconds().get(round_, nan) for round_ in range(1, ROUNDS))
        yield Row(f"cnn, {examples} examples, stacked = {stacked}", f"{taken / clients:.4f} s a client; {busy}")
