"""Every optimizer of torch by its name, tickets under all of them, and what is refused."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import validate
from lotteryfl.common.pruning.parameters import named_masks, named_tensors
from lotteryfl.common.pruning.prune import prune_fixed_amount
from lotteryfl.common.training.loop import train_by_recipe
from lotteryfl.common.training.objective import Labelled
from lotteryfl.common.training.optimizers import check_optimizer
from lotteryfl.common.training.recipe import Recipe, TrainingSettings
from tests.support.separable import problem

ALL = [
    name
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
]
REFUSED = ["LBFGS", "SparseAdam"]


def matrices() -> nn.Module:
    """Return a model that any optimizer takes: Muon has only matrices."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 4, bias=False))


@pytest.mark.parametrize("name", [*(name for name in ALL if name not in REFUSED), "sgd", "adam", "adamw"])
def test_what_is_pruned_is_exactly_zero_after_every_step_and_the_rest_learns(name: str) -> None:
    """With decay, a mean of the weights and a bounded gradient; of Muon too, whose steps mix a matrix's weights."""
    decay = 0.0 if name == "Rprop" else 0.1
    settings = TrainingSettings(optimizer=name, lr=0.01, weight_decay=decay, ema=0.5, clip_grad_norm=0.5)
    model = matrices()
    check_optimizer(settings, model)
    prune_fixed_amount(model, 0.5, verbose=False)
    masks = {key: mask.clone() for key, mask in named_masks(model).items()}
    before = {key: tensor.clone() for key, tensor in named_tensors(model).items()}

    def assert_zero(*_: object) -> None:
        for key, tensor in named_tensors(model).items():
            assert torch.equal(tensor, tensor.where(masks[key] == 1, 0.0))

    train_by_recipe(model, problem()[1], Recipe(settings, 2), on_step=assert_zero)
    assert_zero()
    for key, tensor in named_tensors(model).items():
        assert bool((tensor != before[key] * masks[key]).any())
        assert bool(tensor.isfinite().all())


def test_a_division_by_nothing_leaves_what_is_pruned_alone() -> None:
    """Adam without its ε divides 0 by 0 wherever a weight has had no gradient."""
    model = nn.Sequential(nn.Linear(6, 4, bias=False))
    prune_fixed_amount(model, 0.5, verbose=False)
    settings = TrainingSettings(optimizer="Adam", optimizer_options={"eps": 0.0}, lr=0.01)
    train_by_recipe(model, problem()[1], Recipe(settings, 1))
    (weight,) = named_tensors(model).values()
    assert bool(weight.isfinite().all())
    assert int((weight == 0).sum()) == 12


def test_norms_and_biases_are_spared_where_asked() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 4))
    settings = TrainingSettings(lr=0.1, momentum=0.0, weight_decay=1.0, weight_decay_of="matrices")

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs * 0).sum()

    before = {name: tensor.clone() for name, tensor in named_tensors(model).items()}
    train_by_recipe(model, problem()[1], Recipe(settings, 0, steps=1), objective=Labelled(loss))
    for name, tensor in named_tensors(model).items():
        torch.testing.assert_close(tensor, before[name] * (0.9 if before[name].dim() == 2 else 1.0))


def test_a_steps_gradient_is_bounded_after_pruning_has_taken_its_part() -> None:
    model = matrices()
    prune_fixed_amount(model, 0.5, verbose=False)
    masks = named_masks(model)
    before = {name: tensor * masks[name] for name, tensor in named_tensors(model).items()}
    settings = TrainingSettings(lr=1.0, momentum=0.0, clip_grad_norm=0.01)
    train_by_recipe(model, problem()[1], Recipe(settings, 0, steps=1))
    moved = torch.cat([(tensor - before[name]).flatten() for name, tensor in named_tensors(model).items()])
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("batches", [2, 3])
def test_accumulated_batches_make_the_step_of_one(batches: int) -> None:
    """Of 40 examples in tens, three make an epoch of 30 and 10."""
    found = []
    for size, accumulate in ((10, batches), (10 * batches, 1)):
        model, data = problem()
        model.get_submodule("2").p = 0.0  # type: ignore[assignment]
        settings = TrainingSettings(batch_size=size, accumulate=accumulate, lr=0.1)
        result = train_by_recipe(model, data, Recipe(settings, 2))
        assert result.steps == 4
        found.append((result.loss, named_tensors(model)))
    assert found[0][0] == pytest.approx(found[1][0])
    for name, tensor in found[0][1].items():
        torch.testing.assert_close(tensor, found[1][1][name])


def test_a_training_returns_the_mean_of_its_steps_and_shows_it_at_the_end_of_an_epoch() -> None:
    seen: list[list[Tensor]] = []
    shown: list[list[Tensor]] = []
    model, data = problem()

    def values() -> list[Tensor]:
        return [parameter.detach().clone() for parameter in model.parameters()]

    settings = TrainingSettings(batch_size=20, ema=0.75)
    train_by_recipe(
        model,
        data,
        Recipe(settings, 2),
        on_step=lambda *_: seen.append(values()),
        on_epoch=lambda _: shown.append(values()),
    )
    mean = seen[0]
    for step in seen[1:]:
        mean = [0.75 * old + 0.25 * new for old, new in zip(mean, step, strict=True)]
    torch.testing.assert_close(values(), mean)
    torch.testing.assert_close(shown[-1], mean)
    assert not torch.equal(seen[-1][0], mean[0])


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"optimizer": "Lion"}, "training.optimizer = 'Lion': expected one of sgd, adam, adamw, ASGD, Adadelta"),
        ({"optimizer": "lr_scheduler"}, ""),
        ({"optimizer": "LBFGS"}, "training.optimizer = 'LBFGS': its steps evaluate the loss again by a closure"),
        ({"optimizer": "SparseAdam"}, "training.optimizer = 'SparseAdam': it is for sparse gradients"),
        (
            {"optimizer": "Muon"},
            "training.optimizer = 'Muon', with training.optimizer_options = {}: Muon only supports",
        ),
        (
            {"optimizer": "Adam", "optimizer_options": {"beta": [0.9, 0.99]}},
            "training.optimizer_options.beta = (0.9, 0.99): Adam takes betas, eps, amsgrad",
        ),
        (
            {"optimizer": "Adam", "optimizer_options": {"betas": [0.9, 2.0]}},
            "training.optimizer = 'Adam', with training.optimizer_options = {'betas': (0.9, 2.0)}: Invalid beta",
        ),
        (
            {"optimizer_options": {"dampening": "much"}},
            "training.optimizer = 'sgd', with training.optimizer_options = ",
        ),
        ({"optimizer": "Rprop", "weight_decay": 0.1}, "training.weight_decay = 0.1: Rprop has none: expected 0"),
    ],
)
def test_what_an_optimizer_does_not_take_is_refused_in_a_line(training: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError) as error:
        check_optimizer(validate({"training": training}, "test").training, problem()[0])
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"training": {"optimizer": "../x"}}, "training.optimizer = '../x': string should match pattern"),
        ({"training": {"optimizer_options": {"eps": float("nan")}}}, "training.optimizer_options.eps = nan: expected"),
        (
            {"training": {"optimizer_options": {"betas": [0.9, float("inf")]}}},
            "training.optimizer_options.betas = [0.9, inf]: expected true or false, text, a finite number, or a list",
        ),
        (
            {"training": {"optimizer_options": {"lr": 1.0}}},
            "training.optimizer_options.lr = 1.0: expected in training.lr",
        ),
        (
            {"training": {"optimizer_options": {"momentum": 0.5}}},
            "training.optimizer_options.momentum = 0.5: expected in training.momentum",
        ),
        ({"training": {"optimizer": "adam", "nesterov": True}}, "training.nesterov = True: must be False with"),
        ({"training": {"augment": ["mirror"]}}, "training.augment.0 = 'mirror': input should be 'crop', 'flip'"),
        (
            {"training": {"accumulate": 2}, "privacy": {"dp_sgd": True}},
            "training.accumulate = 2: must be 1 with privacy.dp_sgd",
        ),
        (
            {"training": {"precision": "bfloat16"}, "privacy": {"dp_sgd": True}},
            "training.precision = 'bfloat16': must be 'float32' with privacy.dp_sgd",
        ),
        (
            {"training": {"compile": True}, "privacy": {"dp_sgd": True}},
            "training.compile = True: must be False with privacy.dp_sgd",
        ),
    ],
)
def test_keys_that_do_not_go_together_are_refused_where_the_experiment_is_read(
    table: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExperimentError) as error:
        validate(table, "test")
    assert str(error.value).startswith(f"test: {message}")
    assert "\n" not in str(error.value)
