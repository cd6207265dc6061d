"""Every key of the `training` section reaches the steps of a training, of a private one too."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lotteryfl.common.pruning.parameters import digest, named_tensors
from lotteryfl.common.training.dpsgd import ExamplePrivacy, train_privately
from lotteryfl.common.training.loop import train, train_by_recipe
from lotteryfl.common.training.recipe import Recipe, TrainingSettings

OTHER_VALUES: dict[str, Any] = {"batch_size": 3, "optimizer": "adam", "lr": 0.2, "momentum": 0.5, "weight_decay": 0.1}
KEYWORDS = ["batch_size", "optimizer", "lr", "momentum", "weight_decay"]
NOT_OF_A_TRAINING = {"epochs", "threads", "loader_workers"}  # of the plan, the whole process, the data set


def data() -> tuple[Tensor, Tensor]:
    inputs = torch.randn(12, 6, generator=torch.Generator().manual_seed(3))
    return inputs, inputs[:, :3].argmax(dim=1)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.2), nn.Linear(8, 3))


def plainly(recipe: Recipe) -> str:
    model = net()
    train_by_recipe(model, data(), recipe)
    return digest(named_tensors(model))


def privately(recipe: Recipe) -> str:
    model = net()
    train_privately(model, data(), recipe, ExamplePrivacy(1.0, 0.5, np.random.default_rng(7).bytes))
    return digest(named_tensors(model))


@pytest.mark.parametrize("trained", [plainly, privately])
@pytest.mark.parametrize("key", sorted(TrainingSettings.model_fields.keys() - NOT_OF_A_TRAINING))
def test_a_key_of_the_section_changes_what_a_training_comes_to(key: str, trained: Any) -> None:
    usual = trained(Recipe(TrainingSettings(), 2))
    assert usual == trained(Recipe(TrainingSettings(), 2))
    assert usual != trained(Recipe(TrainingSettings(**{key: OTHER_VALUES[key]}), 2))


@pytest.mark.parametrize("trained", [plainly, privately])
@pytest.mark.parametrize("change", [{"epochs": 3}, {"proximal": 0.5}, {"seed": 1}])
def test_so_does_what_is_particular_to_one_training(change: dict[str, Any], trained: Any) -> None:
    assert trained(Recipe(TrainingSettings(), 2)) != trained(Recipe(TrainingSettings(), **{"epochs": 2, **change}))


@pytest.mark.parametrize("key", KEYWORDS)
def test_keywords_are_a_recipe_in_other_words(key: str) -> None:
    settings = TrainingSettings(**{key: OTHER_VALUES[key]})
    model = net()
    train(model, data(), epochs=2, proximal=0.1, seed=4, **{name: getattr(settings, name) for name in KEYWORDS})
    assert digest(named_tensors(model)) == plainly(Recipe(settings, 2, 0.1, 4))
