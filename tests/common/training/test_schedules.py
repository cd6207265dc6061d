"""Schedules of the learning rate, against torch's own, and what a run is refused for."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import validate
from lotteryfl.common.pruning.parameters import digest, named_tensors
from lotteryfl.common.training.loop import train_by_recipe
from lotteryfl.common.training.recipe import Recipe, TrainingSettings
from lotteryfl.common.training.schedules import Schedule
from tests.support.separable import problem

LENGTH = 12
TORCHS: dict[str, Any] = {
    "step": lambda optimizer: lr_scheduler.StepLR(optimizer, 5, 0.5),
    "exponential": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.5),
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, LENGTH - 1, 0.1),
    "linear": lambda optimizer: lr_scheduler.LinearLR(optimizer, 1.0, 0.1, LENGTH - 1),
}


@pytest.mark.parametrize("kind", TORCHS)
def test_the_factors_are_those_of_torchs_schedulers(kind: Any) -> None:
    schedule = Schedule(kind=kind, gamma=0.5, every=5, end=0.1)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = TORCHS[kind](optimizer)
    for position in range(LENGTH):
        assert schedule.factor(position, LENGTH) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


def test_a_schedule_begins_after_its_warm_up_and_ends_where_it_is_told_to() -> None:
    schedule = Schedule(kind="cosine", end=0.1, warmup=3)
    factors = [schedule.factor(position, 8) for position in range(8)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[7] == schedule.factor(99, 8) == pytest.approx(0.1)
    assert factors[3:] == sorted(factors[3:], reverse=True)
    assert Schedule(kind="linear").factor(0, 1) == 1.0, "of one position, the first is the last"


def test_rounds_have_their_factors_and_the_last_one_that_of_the_round_before() -> None:
    settings = TrainingSettings(schedule=Schedule(kind="linear", end=0.2))
    assert [settings.lr_factor(round_, 5) for round_ in range(1, 7)] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0.2])


@pytest.mark.parametrize(
    ("kind", "depends"),
    [("constant", False), ("step", False), ("exponential", False), ("cosine", True), ("linear", True)],
)
def test_whether_a_recipe_depends_on_the_number_of_rounds(kind: Any, depends: bool) -> None:
    assert TrainingSettings(schedule=Schedule(kind=kind)).depends_on_rounds == depends
    assert not TrainingSettings(local_schedule=Schedule(kind=kind)).depends_on_rounds


def test_a_schedule_over_steps_goes_through_a_round_that_is_trained_in_parts() -> None:
    """Full batches and no momentum: nothing else tells two trainings of parts from one of the whole."""
    settings = TrainingSettings(batch_size=99, momentum=0.0, lr=0.2, local_schedule=Schedule(kind="cosine", warmup=1))
    found = []
    for parts in ([Recipe(settings, 5)], [Recipe(settings, 2, after=3), Recipe(settings, 3, before=2)]):
        model, data = problem()
        model.get_submodule("2").p = 0.0  # type: ignore[assignment]
        order = data[0].sum(1).argsort()
        for part in parts:
            train_by_recipe(model, (data[0][order], data[1][order]), part)
        found.append(named_tensors(model))
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name])


def test_steps_are_those_of_epochs_that_are_cut_off() -> None:
    bits = []
    for recipe in (Recipe(TrainingSettings(batch_size=10), 2), Recipe(TrainingSettings(batch_size=10), 0, steps=8)):
        model, data = problem()  # 40 examples
        assert train_by_recipe(model, data, recipe).steps == 8
        bits.append(digest(named_tensors(model)))
    assert bits[0] == bits[1]
    model, data = problem()
    assert train_by_recipe(model, data, Recipe(TrainingSettings(batch_size=10), 0, steps=6)).steps == 6


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"schedule": {"kind": "cosine", "end": 0}}, "training.schedule.end = 0: input should be greater than 0"),
        (
            {"schedule": {"kind": "exponential", "gamma": 1e-20}},
            "training.schedule.gamma = 1e-20: must be larger: the learning rate is 0 in round 30",
        ),
        ({"schedule": {"warmup": 30}}, "training.schedule.warmup = 30: must be less than rounds = 30"),
        ({"local_schedule": {"kind": "up"}}, "training.local_schedule.kind = 'up': input should be 'constant', 'step'"),
        ({"schedule": {"period": 3}}, "unknown key training.schedule.period = 3; allowed here: kind, gamma, every"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_in_a_line(training: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError) as error:
        validate({"training": training}, "test")
    assert str(error.value).startswith(f"test: {message}")
    assert "\n" not in str(error.value)
