"""A stacked training comes to what each client's own does, but for rounding, and whoever else is there."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lotteryfl.common.models.cnn import cnn
from lotteryfl.common.models.groupnorm import group_norm
from lotteryfl.common.models.lenet import LeNet5
from lotteryfl.common.models.mlp import image_mlp
from lotteryfl.common.models.resnet import BasicBlock
from lotteryfl.common.training.loop import OnEpoch, TrainResult
from lotteryfl.common.training.objective import Objective
from lotteryfl.common.training.recipe import TrainingSettings
from lotteryfl.common.training.stacked.course import Training
from lotteryfl.common.training.stacked.train import train_stacked
from tests.common.training.stacked.problems import CLASSES, Problem, Trained, matrices

SHAPE = (1, 8, 8)

RECIPES: dict[str, dict[str, Any]] = {
    "momentum": {},
    "nesterov by torch's name": {"optimizer": "SGD", "nesterov": True},
    "plain sgd": {"momentum": 0.0},
    "adam": {"optimizer": "adam", "lr": 0.003},
    "adamw, matrices": {"optimizer": "adamw", "lr": 0.003, "weight_decay": 0.1, "weight_decay_of": "matrices"},
    "amsgrad": {"optimizer": "adam", "lr": 0.003, "optimizer_options": {"amsgrad": True}},
    "clipped": {"clip_grad_norm": 0.3, "weight_decay": 0.01},
    "accumulated": {"accumulate": 3},
    "smoothed": {"label_smoothing": 0.1},
    "mean of the weights": {"ema": 0.9},
    "cosine": {"local_schedule": {"kind": "cosine", "warmup": 1}},
    "cosine of adamw": {"optimizer": "adamw", "lr": 0.003, "weight_decay": 0.1, "local_schedule": {"kind": "cosine"}},
    "augmented": {"augment": ["crop", "flip", "erase"]},
}
PLANS: dict[str, dict[str, Any]] = {
    "proximal": {"proximal": 0.1},
    "steps": {"epochs": 0, "steps": 5},
    "after a first part": {"before": 2, "after": 1, "lr_factor": 0.5},
}


def mlp() -> nn.Module:
    return image_mlp([16], 1, 8, CLASSES)


def tiny_resnet() -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), group_norm(8), nn.ReLU())
    return nn.Sequential(stem, BasicBlock(8, 16, 2, group_norm), nn.Flatten(), nn.Linear(256, CLASSES))


class Words(nn.Module):
    """Looks pixels up, and learns nothing of dark ones."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(2, 4, padding_idx=0)
        self.head = nn.Linear(256, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.table(inputs.flatten(1).gt(0).long()).flatten(1))
        return logits


def require_equal(stacked: Trained, alone: Trained) -> None:
    for one, other in zip(stacked.models, alone.models, strict=True):
        for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-6)
            assert torch.equal(ours == 0, theirs == 0)
    for mine, its in zip(stacked.results, alone.results, strict=True):
        assert isinstance(mine, TrainResult)
        assert isinstance(its, TrainResult)
        assert (mine.examples, mine.steps) == (its.examples, its.steps)
        assert math.isclose(mine.loss, its.loss, rel_tol=1e-5)


@pytest.mark.parametrize("keys", RECIPES.values(), ids=RECIPES)
def test_every_client_trains_as_it_does_alone(keys: dict[str, Any]) -> None:
    problem = Problem(mlp, SHAPE, TrainingSettings(**{"lr": 0.05, **keys}))
    require_equal(problem.stacked(), problem.one_by_one())


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_plan_means_the_same_stacked(plan: dict[str, Any]) -> None:
    settings = TrainingSettings(lr=0.05, local_schedule={"kind": "linear"})
    problem = Problem(mlp, SHAPE, settings, plan=plan)
    require_equal(problem.stacked(), problem.one_by_one())


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: cnn(1, 8, CLASSES), SHAPE),
        (lambda: cnn(1, 28, CLASSES, dropout=False), (1, 28, 28)),
        (lambda: LeNet5(3, 32, CLASSES), (3, 32, 32)),
        (tiny_resnet, SHAPE),
        (Words, SHAPE),
    ],
    ids=["grouped convolutions and dropout", "convolutions one by one", "LeNet-5", "ResNet with group norm", "words"],
)
def test_the_built_in_layers_train_as_alone(make: Any, shape: tuple[int, ...]) -> None:
    problem = Problem(make, shape, TrainingSettings(lr=0.02, batch_size=12), plan={"epochs": 2})
    require_equal(problem.stacked(), problem.one_by_one())


@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    batch_size=st.integers(1, 9),
    accumulate=st.integers(1, 3),
    epochs=st.integers(1, 3),
    drop_last=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_sizes_of_clients_and_batches_go_together_as_they_come(
    sizes: list[int], batch_size: int, accumulate: int, epochs: int, drop_last: bool
) -> None:
    recipe = TrainingSettings(lr=0.05, batch_size=batch_size, accumulate=accumulate, drop_last=drop_last)
    problem = Problem(mlp, SHAPE, recipe, plan={"epochs": epochs}, sizes=sizes)
    require_equal(problem.stacked(), problem.one_by_one())


@pytest.mark.parametrize("keys", [{}, {"local_schedule": {"kind": "cosine"}, "augment": ["crop"], "optimizer": "adam"}])
def test_what_a_client_comes_to_does_not_depend_on_who_else_is_there(keys: dict[str, Any]) -> None:
    problem = Problem(lambda: cnn(1, 8, CLASSES), SHAPE, TrainingSettings(lr=0.05, **keys))
    whole, rest = problem.stacked(), problem.stacked(present=[1, 3])
    assert [result is None for result in rest.results] == [True, False, True, False]
    for row in (1, 3):
        assert rest.results[row] == whole.results[row]
        for one, other in zip(whole.models[row].parameters(), rest.models[row].parameters(), strict=True):
            assert torch.equal(one, other)
    for weight, pruned in zip(matrices(rest.models[0]), matrices(problem.pruned_models()[0][0]), strict=True):
        assert torch.equal(weight, pruned)  # of a training that is missing nothing is changed


def test_who_looks_after_an_epoch_sees_the_model_as_it_is_then() -> None:
    def kept(seen: dict[tuple[int, int], list[Tensor]]) -> Any:
        def of(number: int, model: nn.Module) -> OnEpoch:
            def keep(epoch: int) -> None:
                seen[number, epoch] = [parameter.detach().clone() for parameter in model.parameters()]

            return keep

        return of

    problem = Problem(mlp, SHAPE, TrainingSettings(lr=0.05, ema=0.5))
    stacked: dict[tuple[int, int], list[Tensor]] = {}
    alone: dict[tuple[int, int], list[Tensor]] = {}
    problem.stacked(on_epoch=kept(stacked))
    problem.one_by_one(on_epoch=kept(alone))
    assert stacked.keys() == alone.keys()
    for key, tensors in alone.items():
        torch.testing.assert_close(stacked[key], tensors)


class Squares(Objective):
    """A loss of one's own that is a mean over examples."""

    mean_over_examples = True

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        """Return the mean square."""
        return (outputs - F.one_hot(batch[1], CLASSES)).square().sum(dim=1).mean()


def test_a_loss_of_ones_own_trains_as_alone() -> None:
    problem = Problem(mlp, SHAPE, TrainingSettings(lr=0.01), objective=Squares())
    require_equal(problem.stacked(), problem.one_by_one())


def test_progress_is_told_step_by_step_and_cancels() -> None:
    problem = Problem(mlp, SHAPE, TrainingSettings())
    seen: list[tuple[int, int]] = []

    def on_step(epoch: int, step: int, loss: Tensor) -> None:
        assert loss.isfinite()
        seen.append((epoch, step))
        if step == 5:
            raise KeyboardInterrupt

    trainings = [Training(*each) for each in zip(problem.models, problem.data, problem.recipes, strict=True)]
    with pytest.raises(KeyboardInterrupt):
        train_stacked(mlp(), trainings, on_step=on_step)
    assert seen == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 5)]  # of who takes the most


def test_the_loss_that_is_told_is_of_the_rows_that_train() -> None:
    def told(present: list[int]) -> list[float]:
        losses: list[float] = []
        problem = Problem(mlp, SHAPE, TrainingSettings())
        problem.stacked(present, on_step=lambda _epoch, _step, loss: losses.append(float(loss)))
        return losses

    longest, shortest, both = told([2]), told([3]), told([2, 3])
    assert len(longest) == len(both) > len(shortest)
    expected = [sum(losses) / 2 for losses in zip(longest, shortest, strict=False)] + longest[len(shortest) :]
    assert both == pytest.approx(expected)
