"""A head and a body that are trained apart: what FedRep and FedBABU are for has its effect, and what they refuse."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.wire.layers import head_and_body, output_layer
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.strategies import create_strategy
from tests.support import normed_task
from tests.support.bench import Bench, Tied, tiny_experiment, tiny_mlp
from tests.support.playing import model, play, settings, ticket

Drive = Callable[..., Bench]

LONG: dict[str, Any] = {"rounds": 1, "training": {"epochs": 4, "batch_size": 4}}


def spread_of_bodies(bench: Bench) -> float:
    """How far the clients' bodies are from one another after a round."""
    bodies = [
        torch.cat([ticket(bench, client)[f"0.{part}"].flatten() for part in ("weight", "bias")]) for client in range(3)
    ]
    return float(torch.stack(bodies).var(dim=0).sum().sqrt())


def test_fedreps_bodies_stay_nearer_to_one_another_than_fedpers(drive: Drive) -> None:
    """As heads have learned first what is each client's own."""
    spreads = [
        spread_of_bodies(play(drive(tiny_experiment(**settings(name), **LONG), name=name)))
        for name in ("fedrep", "fedper")
    ]
    assert spreads[0] < 0.6 * spreads[1]


def test_fedreps_last_round_trains_heads_alone(drive: Drive) -> None:
    bench = play(drive(tiny_experiment(**settings("fedrep"), **LONG)), rounds=2)
    for client in range(3):
        assert torch.equal(ticket(bench, client)["0.weight"], model(bench)["0.weight"])
        assert not torch.equal(ticket(bench, client)["2.weight"], model(bench)["2.weight"])


@pytest.mark.parametrize("wire_dtype", ["float32", "int8", "bfloat16"])
def test_fedbabus_head_keeps_its_bits_until_the_last_round(drive: Drive, wire_dtype: str) -> None:
    """Whatever momentum, decay and what travels do to the rest."""
    changes: dict[str, Any] = {"rounds": 3, "wire_dtype": wire_dtype, "server": {"optimizer": "adam"}}
    training = {"epochs": 2, "momentum": 0.9, "weight_decay": 0.1}
    bench = play(drive(tiny_experiment(**settings("fedbabu"), **changes, training=training)), rounds=3)
    for name, value in model(bench, 0).items():
        assert torch.equal(model(bench, 3)[name], value) == name.startswith("2.")
    play(bench)  # every client fine-tunes
    heads = [ticket(bench, client)["2.weight"] for client in range(3)]
    assert all((head - model(bench, 0)["2.weight"]).abs().max() > 0.01 for head in heads)
    assert all(not torch.equal(heads[0], head) for head in heads[1:])


def test_fedbabu_can_be_told_its_head(drive: Drive) -> None:
    bench = play(drive(tiny_experiment(**settings("fedbabu", options={"head": "0.*"}))))
    changed = {name for name, value in model(bench, 0).items() if not torch.equal(model(bench)[name], value)}
    assert changed == {"2.weight", "2.bias"}


@pytest.mark.parametrize("pattern", ["x.*", "*", 3])
def test_fedbabu_needs_a_head_and_a_body(pattern: Any) -> None:
    experiment = tiny_experiment(**settings("fedbabu", options={"head": pattern}))
    with pytest.raises(
        ExperimentError, match=r"strategy\.options\.head = .*: strategy\.name = 'fedbabu' needs a pattern"
    ):
        create_strategy(experiment).check(TensorTable.of(tiny_mlp()))


def test_both_halves_mean_the_same_layer() -> None:
    for net in (tiny_mlp(), normed_task.model(), Tied(), nn.Conv2d(3, 2, 1), nn.BatchNorm1d(3)):
        table, parameters = TensorTable.of(net), dict(net.named_parameters())
        head, body = head_and_body(table, ())
        assert set(head) == {name for name in output_layer(table) if name in parameters}
        assert set(head) | set(body) == parameters.keys()
    net = tiny_mlp()
    net.get_submodule("2").requires_grad_(False)
    assert head_and_body(TensorTable.of(net), ()) == (["0.weight", "0.bias"], [])


@pytest.mark.parametrize(
    ("strategy", "training", "message"),
    [
        ({}, {"epochs": 1}, r"training\.epochs = 1: strategy\.name = 'fedrep' .* expected 2 or more"),
        ({}, {"steps": 1}, r"training\.steps = 1: .* expected 2 or more"),
        ({"options": {"body": 4}}, {}, r"strategy\.options\.body = 4: expected a finite number of 1 to 3"),
        ({"options": {"body": 1.5}}, {}, r"strategy\.options\.body = 1\.5: expected a whole number of epochs"),
        ({"options": {"head": 2}}, {}, r"strategy\.options\.head = 2: .* expected body"),
        ({"personal": ["*.weight", "*.bias"]}, {}, r"strategy\.personal = .* needs patterns that fit some"),
    ],
)
def test_what_fedrep_refuses(strategy: dict[str, Any], training: dict[str, int], message: str) -> None:
    experiment = tiny_experiment(**settings("fedrep", **strategy), training={"epochs": 4, **training})
    with pytest.raises(ExperimentError, match=message):
        create_strategy(experiment).check(TensorTable.of(tiny_mlp()))
