"""Every key of the `training` section reaches the steps of a training, of a private one too."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.pruning.parameters import digest, named_tensors
from lotteryfl.common.training.dpsgd import ExamplePrivacy, train_privately
from lotteryfl.common.training.loop import train, train_by_recipe
from lotteryfl.common.training.recipe import Recipe, TrainingSettings

OTHER_VALUES: dict[str, Any] = {
    "batch_size": 3,
    "accumulate": 2,
    "drop_last": True,
    "optimizer": "adam",
    "optimizer_options": {"dampening": 0.5},
    "lr": 0.2,
    "momentum": 0.5,
    "nesterov": True,
    "weight_decay": 0.1,
    "weight_decay_of": "matrices",
    "clip_grad_norm": 0.1,
    "label_smoothing": 0.1,
    "ema": 0.5,
    "augment": ["flip"],
    "precision": "bfloat16",
    "local_schedule": {"kind": "cosine"},
}
TOGETHER: dict[str, Any] = {"weight_decay_of": {"weight_decay": 0.1}}
"""What must be there for a key to matter."""
KEYWORDS = ["batch_size", "optimizer", "lr", "momentum", "weight_decay"]
NOT_OF_A_TRAINING = {"epochs", "steps", "schedule", "threads", "loader_workers"}
"""In the plan, told by its round, the whole process's, the data set's."""
SAME_NUMBERS = {"compile", "channels_last"}  # by other means: test_precision.py
NOT_PRIVATELY = {"accumulate", "precision"}  # refused in an experiment


def data() -> tuple[Tensor, Tensor]:
    inputs = torch.randn(12, 6, generator=torch.Generator().manual_seed(3))
    return inputs.view(12, 1, 2, 3), inputs[:, :3].argmax(dim=1)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.Dropout(0.2), nn.Linear(8, 3))


def plainly(recipe: Recipe) -> str:
    model = net()
    train_by_recipe(model, data(), recipe)
    return digest(named_tensors(model))


def privately(recipe: Recipe) -> str:
    model = net()
    train_privately(model, data(), recipe, ExamplePrivacy(1.0, 0.5, np.random.default_rng(7).bytes))
    return digest(named_tensors(model))


@pytest.mark.parametrize("trained", [plainly, privately])
@pytest.mark.parametrize("key", sorted(TrainingSettings.model_fields.keys() - NOT_OF_A_TRAINING - SAME_NUMBERS))
def test_a_key_of_the_section_changes_what_a_training_comes_to(key: str, trained: Any) -> None:
    if trained is privately and key in NOT_PRIVATELY:
        pytest.skip("refused")
    before = TOGETHER.get(key, {})
    usual = trained(Recipe(TrainingSettings(**before), 2))
    assert usual == trained(Recipe(TrainingSettings(**before), 2))
    other = Recipe(TrainingSettings(**before, **{key: OTHER_VALUES[key]}), 2)
    assert trained(other) == trained(other) != usual


@pytest.mark.parametrize("trained", [plainly, privately])
@pytest.mark.parametrize("change", [{"epochs": 3}, {"proximal": 0.5}, {"seed": 1}, {"steps": 3}, {"lr_factor": 0.5}])
def test_so_does_what_is_particular_to_one_training(change: dict[str, Any], trained: Any) -> None:
    assert trained(Recipe(TrainingSettings(), 2)) != trained(Recipe(TrainingSettings(), **{"epochs": 2, **change}))


@pytest.mark.parametrize("key", KEYWORDS)
def test_keywords_are_a_recipe_in_other_words(key: str) -> None:
    settings = TrainingSettings(**{key: OTHER_VALUES[key]})
    model = net()
    train(model, data(), epochs=2, proximal=0.1, seed=4, **{name: getattr(settings, name) for name in KEYWORDS})
    assert digest(named_tensors(model)) == plainly(Recipe(settings, 2, 0.1, 4))


@pytest.mark.parametrize(
    "key", sorted((TrainingSettings.model_fields.keys() - NOT_OF_A_TRAINING - SAME_NUMBERS) | {"steps"})
)
def test_train_takes_the_whole_section_as_a_round_does(key: str) -> None:
    keys = {"epochs": 2, **TOGETHER.get(key, {}), key: OTHER_VALUES.get(key, 3)}
    settings = TrainingSettings(**keys)
    expected = plainly(Recipe(settings, 2, 0.1, 4, settings.steps))
    for recipe in (settings, keys):
        model = net()
        train(model, data(), proximal=0.1, seed=4, recipe=recipe)
        assert digest(named_tensors(model)) == expected


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"recipe": {}, "lr": 0.1}, r"recipe: expected lr in it, not beside it"),
        ({"recipe": {"rate": 1}}, r"recipe\.rate = 1: Extra inputs are not permitted"),
        ({"recipe": {"lr": -1}}, r"recipe\.lr = -1: Input should be greater than 0"),
        (
            {"recipe": {"schedule": {"kind": "cosine"}}},
            r"recipe\.schedule\.kind = 'cosine': counts rounds, .* local_schedule",
        ),
        ({"recipe": {"optimizer": "SGDX"}}, r"training\.optimizer = 'SGDX': expected one of sgd"),
        ({"lr": 0.1}, r"epochs and lr: expected both, or a recipe"),
    ],
)
def test_a_recipe_that_is_none_is_named(options: dict[str, Any], line: str) -> None:
    with pytest.raises((ExperimentError, ValueError), match=f"^{line}") as raised:
        train(net(), data(), **options)
    assert "\n" not in str(raised.value)
