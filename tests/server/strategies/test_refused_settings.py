"""What strategies with a client's half of their own refuse of an experiment, in one line each."""

from typing import Any

import pytest
from torch import nn

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.strategies import create_strategy
from tests.support.bench import tiny_experiment
from tests.support.playing import create


def test_scaffold_has_nothing_of_a_clients_own_to_correct() -> None:
    table = TensorTable.of(nn.Linear(2, 2))
    create("scaffold").check(table)
    with pytest.raises(ExperimentError, match=r"strategy.personal: 'bias' would be each client's own"):
        create("scaffold", personal=["b*"]).check(table)


def test_what_goes_with_nothing_of_a_clients_own_and_what_with_some() -> None:
    table = TensorTable.of(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    with pytest.raises(ExperimentError, match=r"strategy.personal: '1.bias' would .* 'fedala' weighs what all share"):
        create("fedala", personal=["1.*"]).check(table)
    for name in ("ditto", "apfl", "fedbabu"):
        create(name, personal=["1.*"]).check(table)
        with pytest.raises(ExperimentError, match=rf"strategy.personal = .*: names every .* '{name}' needs some"):
            create(name, personal=["*"]).check(table)


def test_fedpms_weights_are_nobodys_own() -> None:
    table = TensorTable.of(nn.Linear(2, 2))
    strategy = create("fedpm", personal=["w*"])
    with pytest.raises(ExperimentError, match=r"'w\*': fits none .* tensors: with strategy.name = 'fedpm' all stay"):
        strategy.check(table.fixing(strategy.fixed(table)).moving)


@pytest.mark.parametrize(
    ("name", "options", "refusal"),
    [
        ("ditto", {"lambda": -0.5}, "strategy.options.lambda = -0.5: expected a finite number not below 0"),
        ("ditto", {"lambda": "much"}, "strategy.options.lambda = 'much': expected a finite number not below 0"),
        ("ditto", {"lambda": True}, "strategy.options.lambda = True: expected a finite number not below 0"),
        ("apfl", {"alpha": 1.5}, "strategy.options.alpha = 1.5: expected a finite number of 0 to 1"),
        ("apfl", {"adaptive": 1}, "strategy.options.adaptive = 1: expected true or false"),
        ("fedala", {"layers": 0}, "strategy.options.layers = 0: expected a finite number not below 1"),
        ("fedala", {"start_epochs": 1.5}, "strategy.options.start_epochs = 1.5: expected a whole number"),
        ("ditto", {"pull": 1.0}, "strategy.options.pull = 1.0: strategy.name = 'ditto' has no such option"),
    ],
)
def test_an_option_that_cannot_be(name: str, options: dict[str, Any], refusal: str) -> None:
    with pytest.raises(ExperimentError) as refused:
        create(name, options=options)
    assert refusal in str(refused.value)


def test_fedala_weighs_layers_that_there_are_and_in_epochs() -> None:
    table = TensorTable.of(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 3)))
    shapes = [tensor.shape for tensor in create("fedala", options={"layers": 2}).tensors(table)]
    assert shapes == 2 * [spec.shape for spec in table.in_model]
    assert len(create("fedala").tensors(table)) == 2 * 2
    with pytest.raises(ExperimentError, match=r"strategy.options.layers = 3: the model has 2 modules with a matrix"):
        create("fedala", options={"layers": 3}).tensors(table)
    in_steps = create_strategy(tiny_experiment(strategy={"name": "fedala"}, training={"steps": 5}))
    with pytest.raises(ExperimentError, match=r"training.steps = 5: strategy.name = 'fedala' trains its weights"):
        in_steps.check(table)


@pytest.mark.parametrize("rule", ["median", "trimmed_mean"])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("fedtiny", "clients send gradients with zeros in the place of most"),
        ("fedrts", "weights go by the share of clients that want them"),
    ],
)
def test_what_only_a_mean_says(name: str, why: str, rule: str) -> None:
    changes = {"rounds": 3, "strategy": {"name": name}}
    table = TensorTable.of(nn.Linear(2, 2))
    create_strategy(tiny_experiment(**changes)).check(table)
    with pytest.raises(ExperimentError) as refused:
        create_strategy(tiny_experiment(**changes, aggregation={"rule": rule})).check(table)
    assert str(refused.value) == f"aggregation.rule = {rule!r}: with strategy.name = {name!r} {why}: expected 'mean'"


@pytest.mark.parametrize(
    ("name", "changes", "setting", "why"),
    [
        ("spafl", {"server": {"optimizer": "sgd"}}, "server.optimizer = 'sgd'", "client's own: expected 'none'"),
        ("spafl", {"evaluation": {"keep_best": True}}, "evaluation.keep_best = true", "client's own: expected false"),
        ("fedpm", {"server": {"optimizer": "adam"}}, "server.optimizer = 'adam'", "θ_0 has them: expected 'none'"),
        ("spafl", {"checks": {"max_update_norm": 2.5}}, "checks.max_update_norm = 2.5", "client's own: expected 0"),
    ],
)
def test_a_setting_that_would_say_nothing(name: str, changes: dict[str, Any], setting: str, why: str) -> None:
    table = TensorTable.of(nn.Linear(2, 2))
    create(name).check(table)
    with pytest.raises(ExperimentError) as refused:
        create_strategy(tiny_experiment(**{"strategy": {"name": name}, **changes})).check(table)
    assert str(refused.value).startswith(f"{setting}: with strategy.name = {name!r} ")
    assert str(refused.value).endswith(why)
