"""A published sparse run's protocol, for a few rounds: ResNet-18 on 32×32 images, 100 clients, 10 a round, 8 workers a
card. SSFL on Flower took about 4 hours for 999 rounds on one GPU node; the goal is a fifth of that on the same card."""

from collections.abc import Iterator
from statistics import mean

import torch

from benchmarks.gpu.machine import Busy
from benchmarks.gpu.row import Row
from benchmarks.gpu.runs import Pace, Setting, experiment, worked

SECONDS = 120.0

ROUNDS = 999
HOURS = 4 / 5


def rows(setting: Setting) -> Iterator[Row]:
    """Run one round of saliencies and some of training, and say what all would take."""
    clients, examples, workers, rounds = (4, 20, 2, 3) if setting.quick else (100, 500, 8, 6)
    architecture = "cnn" if setting.quick else "resnet18"
    chosen = min(10, clients)
    of = experiment(
        architecture,
        examples,
        rounds=rounds,
        clients=clients,
        clients_per_round=chosen,
        training={"epochs": 1 if setting.quick else 5, "batch_size": 16},
        strategy={"name": "ssfl", "target_density": 0.5},
    )
    pace, busy = Pace(), Busy(torch.device(setting.device))
    with busy:
        worked(setting, of, workers, pace=pace)
    taken = mean(seconds for round_, seconds in pace.seconds().items() if 2 <= round_ < rounds)
    trained = f"{examples} images, {of.training.epochs} epochs in batches of 16"
    what = f"{architecture}, {clients} clients, {chosen} a round, each {trained}, {workers} workers"
    yield Row(what, f"{taken:.2f} s a round; {busy}")
    hours = taken * ROUNDS / 3600
    is_met = None if setting.quick else hours <= HOURS
    yield Row(f"{ROUNDS} rounds of it, extrapolated", f"{hours:.2f} h", is_met, f"≤ {HOURS:.1f} h")
