"""Many small clients trained as one model against one after the other: the CPU of a client's step, and of a run."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

import lotteryfl
from benchmarks.harness import Measure, Row, at_least, constant, in_turn, interleaved, share, times_less
from lotteryfl.common.experiment.experiment import validate
from lotteryfl.common.models import create_model
from lotteryfl.common.pruning.parameters import copy_model
from lotteryfl.common.training.loop import train_by_recipe
from lotteryfl.common.training.recipe import Recipe, TrainingSettings
from lotteryfl.common.training.stacked.course import Training
from lotteryfl.common.training.stacked.train import train_stacked


@dataclass(frozen=True)
class Case:
    """Which clients, how many at once, and how often."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    clients: int
    steps: int
    repeats: int
    least: float | None = None
    """Times less that stacking is to take; None: for information."""


@dataclass(frozen=True)
class Runs:
    """Whole runs on digits, in one process: of which models, with how many clients, and how often."""

    models: tuple[str, ...]
    clients: int
    in_a_round: int
    rounds: int
    stacked: int
    repeats: int


@dataclass(frozen=True)
class Sizes:
    """What is measured of both."""

    cases: Mapping[str, Case]
    runs: Runs


MLP = Case(partial(create_model, "digits", "mlp"), (1, 8, 8), 32, 20, 7)
CNN = Case(partial(create_model, "digits", "cnn"), (1, 8, 8), 32, 20, 7)
LARGER = Case(partial(create_model, "fashion-mnist", "cnn"), (1, 28, 28), 32, 10, 5)
LENET = Case(partial(create_model, "cifar10", "lenet5"), (3, 32, 32), 16, 10, 5)
CASES = {
    "MLP for digits, 8": replace(MLP, clients=8),
    "MLP for digits, 32": MLP,
    "CNN for digits, 8": replace(CNN, clients=8),
    "CNN for digits, 32": replace(CNN, least=2.0),
    "CNN for Fashion-MNIST, 32": LARGER,
    "LeNet-5 for CIFAR-10, 16": LENET,
}
FULL = Sizes(CASES, Runs(("mlp", "cnn"), clients=400, in_a_round=40, rounds=10, stacked=20, repeats=3))
QUICK = Sizes(
    {name: replace(CASES[name], clients=2, steps=1, repeats=1) for name in ("MLP for digits, 8", "CNN for digits, 8")},
    Runs(("mlp",), clients=4, in_a_round=4, rounds=1, stacked=2, repeats=1),
)
BATCH = 8


def rows(sizes: Sizes) -> list[Row]:
    """Milliseconds of CPU for a client's step, batches of eight; then seconds of CPU for runs, and their accuracies."""
    torch.set_num_threads(1)
    of_steps = [_row(name, case) for name, case in sizes.cases.items()]
    return of_steps + [row for model in sizes.runs.models for row in _of_runs(model, sizes.runs)]


def _row(name: str, case: Case) -> Row:
    torch.manual_seed(0)
    models = [case.build() for _ in range(case.clients)]
    data = [(torch.randn(4 * BATCH, *case.shape), torch.randint(10, (4 * BATCH,))) for _ in models]
    settings = TrainingSettings(lr=1e-3, batch_size=BATCH, steps=case.steps)
    recipes = [Recipe(settings, 0, seed=number, steps=case.steps) for number in range(case.clients)]

    def stacked() -> None:
        trainings = [Training(*each) for each in zip(models, data, recipes, strict=True)]
        train_stacked(copy_model(models[0]), trainings)

    def one_by_one() -> None:
        for model, own, recipe in zip(models, data, recipes, strict=True):
            train_by_recipe(model, own, recipe)

    times = interleaved(case.repeats, ours=_cpu(stacked, case), alone=_cpu(one_by_one, case))
    goal = None if case.least is None else at_least(case.least)
    return times_less(
        f"stacked {name}: CPU of a client's step", times["ours"], times["alone"], "one by one", "ms", goal
    )


def _cpu(work: Callable[[], None], case: Case) -> Measure:
    def measure() -> float:
        start = time.process_time()
        work()
        return (time.process_time() - start) * 1e3 / case.steps / case.clients

    return measure


def _of_runs(model: str, runs: Runs) -> list[Row]:
    accuracies: dict[int, Mapping[str, float]] = {}
    for stacked in (2, 0):
        _accuracy(model, replace(runs, clients=2, in_a_round=2, rounds=1), stacked)  # what is imported by the first

    def run(stacked: int) -> float:
        start = time.process_time()
        accuracies[stacked] = _accuracy(model, runs, stacked)
        return time.process_time() - start

    times = in_turn(runs.repeats, ours=partial(run, runs.stacked), alone=partial(run, 0))
    name = f"run of {runs.clients} clients, {model} on digits, stacked {runs.stacked}"
    of_models = [
        share(
            f"{name}: accuracy {said}",
            constant(accuracies[runs.stacked][key]),
            constant(accuracies[0][key]),
            "one by one",
            "",
        )
        for said, key in (("as downloaded", "downloaded_last"), ("personalised", "personalised_last"))
    ]
    return [times_less(f"{name}: CPU", times["ours"], times["alone"], "one by one", "s"), *of_models]


def _accuracy(model: str, runs: Runs, stacked: int) -> Mapping[str, float]:
    """Return the mean accuracies that a run ends with; its clients train five epochs, and prune once they do well."""
    table: dict[str, Any] = {
        "rounds": runs.rounds,
        "clients": runs.clients,
        "clients_per_round": runs.in_a_round,
        "task": {"name": "digits", "model": model},
        "training": {"epochs": 5, "batch_size": BATCH, "lr": 0.02},
        "strategy": {"prune_rate": 0.3, "target_density": 0.5},
        "engine": {"stacked": stacked},
    }
    with TemporaryDirectory() as folder, lotteryfl.simulate(validate(table, "stacked"), Path(folder) / "run") as view:
        found: Mapping[str, float] = view.summary()["accuracy"]
        return found
