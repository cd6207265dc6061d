"""Many small clients trained as one model against one after the other: the CPU of a client's step."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from benchmarks.harness import Measure, Row, at_least, interleaved, times_less
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


MLP = Case(partial(create_model, "digits", "mlp"), (1, 8, 8), 32, 20, 7)
CNN = Case(partial(create_model, "digits", "cnn"), (1, 8, 8), 32, 20, 7)
LARGER = Case(partial(create_model, "fashion-mnist", "cnn"), (1, 28, 28), 32, 10, 5)
LENET = Case(partial(create_model, "cifar10", "lenet5"), (3, 32, 32), 16, 10, 5)
FULL = {
    "MLP for digits, 8": replace(MLP, clients=8),
    "MLP for digits, 32": MLP,
    "CNN for digits, 8": replace(CNN, clients=8),
    "CNN for digits, 32": replace(CNN, least=2.0),
    "CNN for Fashion-MNIST, 32": LARGER,
    "LeNet-5 for CIFAR-10, 16": LENET,
}
QUICK = {
    name: replace(FULL[name], clients=2, steps=1, repeats=1) for name in ("MLP for digits, 8", "CNN for digits, 8")
}
BATCH = 8


def rows(cases: Mapping[str, Case]) -> list[Row]:
    """Milliseconds of CPU for a client's step, batches of eight."""
    torch.set_num_threads(1)
    return [_row(name, case) for name, case in cases.items()]


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
