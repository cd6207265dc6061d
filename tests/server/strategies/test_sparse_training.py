"""Training that stays sparse: what SparsyFed and DisPFL are for has its effect, and what they refuse."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import TensorDataset

from lotteryfl.client.algorithms.sparsyfed import SparseBackward, largest
from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.packedmasks import unpack
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.strategies import create_strategy
from tests.support.bench import Bench, TinyTask, tiny_experiment, tiny_mlp
from tests.support.playing import W, mask_of, model, play, settings

Drive = Callable[..., Bench]

# ---- SparsyFed


def overlap(drive: Drive, beta: float) -> float:
    """How much of their masks clients have in common after some rounds, as share of what any of them keeps."""
    changes = settings("sparsyfed", target_density=0.2, options={"beta": beta})
    training = {"epochs": 2, "lr": 0.2}
    bench = play(drive(tiny_experiment(**changes, rounds=4, training=training), name=f"beta {beta}"), rounds=4)
    masks = torch.stack([mask_of(bench, client) for client in range(3)])
    assert int(model(bench)[W].count_nonzero()) <= int(masks.any(dim=0).sum())
    return float(masks.all(dim=0).sum() / masks.any(dim=0).sum())


def test_powers_let_clients_agree_on_what_they_keep(drive: Drive) -> None:
    """Gradients of what is small or 0 are small or 0, so that what has gone does not come back."""
    assert overlap(drive, 2.0) > overlap(drive, 1.0) + 0.2


def test_a_tensor_that_begins_as_zeros_trains_all_the_same(drive: Drive) -> None:
    """As an adapter's second matrix does; of any other, an exact 0 stays one."""

    def some_zeros() -> nn.Module:
        net = tiny_mlp()
        nn.init.zeros_(net.get_parameter("2.weight"))
        nn.init.zeros_(net.get_parameter(W)[0])
        return net

    bench = play(drive(tiny_experiment(**settings("sparsyfed", target_density=1.0)), TinyTask(some_zeros)))
    assert model(bench)["2.weight"][:, 1:].all()
    assert not model(bench)[W][0].any()
    assert model(bench)[W][1:].all()


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (nn.Linear(5, 4), torch.randn(3, 7, 5)),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), torch.randn(2, 4, 6, 6)),
        (nn.Conv1d(3, 4, 3, bias=False), torch.randn(2, 3, 6)),
    ],
)
def test_a_weights_gradient_is_of_the_largest_inputs_and_nothing_else_is_other(
    layer: nn.Module, inputs: Tensor
) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = layer.get_parameter("weight") * (
        torch.rand(layer.get_parameter("weight").shape, generator=generator) < 0.4
    )
    inputs = inputs.clone().requires_grad_()
    others = [inputs, *(each for name, each in layer.named_parameters() if name == "bias")]
    expected = functional_call(layer, {"weight": weight}, (inputs,))
    with SparseBackward([weight]):
        found = functional_call(layer, {"weight": weight}, (inputs,))
    assert torch.equal(found, expected)
    above = torch.randn(found.shape, generator=generator)
    pairs = zip(
        *(torch.autograd.grad(each, others, above, retain_graph=True) for each in (found, expected)), strict=True
    )
    assert all(torch.allclose(one, other) for one, other in pairs)
    few = largest(inputs.detach(), int(weight.count_nonzero()) / weight.numel())
    assert 0 < int(few.count_nonzero()) < few.numel() / 2 + 1
    (gradient,) = torch.autograd.grad(found, [weight], above, retain_graph=True)
    (of_few,) = torch.autograd.grad(functional_call(layer, {"weight": weight}, (few,)), [weight], above)
    (of_all,) = torch.autograd.grad(expected, [weight], above)
    assert torch.allclose(gradient, of_few)
    assert not torch.allclose(gradient, of_all)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.5}, r"strategy\.options\.beta = 0\.5: expected a finite number not below 1"),
        ({"prune_activations": 1}, r"strategy\.options\.prune_activations = 1: expected true or false"),
        ({"alpha": 2}, r"strategy\.options\.alpha = 2: .* expected beta or prune_activations"),
    ],
)
def test_what_sparsyfed_refuses(options: dict[str, Any], message: str) -> None:
    experiment = tiny_experiment(**settings("sparsyfed", options=options))
    with pytest.raises(ExperimentError, match=message):
        create_strategy(experiment).check(TensorTable.of(tiny_mlp()))


# ---- DisPFL


class Different(TinyTask):
    """Client k's classes are told by three inputs of six: the first ones, moved k places back."""

    def client_data(self, client: int) -> ClientData:
        generator = torch.Generator().manual_seed(client)
        sets = []
        for size in (60, 20, 20):
            inputs = torch.randn(size, 6, generator=generator)
            sets.append(TensorDataset(inputs, inputs.roll(client, dims=1)[:, :3].argmax(dim=1)))
        return ClientData(*sets)


def on_what_tells(bench: Bench) -> float:
    """Which share of what clients keep of their first layers is on inputs that tell, on average."""
    shares = []
    for client in range(3):
        mask = mask_of(bench, client)
        shares.append(float(mask.roll(client, dims=1)[:, :3].sum() / mask.sum()))
    return sum(shares) / 3


def test_exchanges_bring_each_clients_mask_to_what_tells_it_something(drive: Drive) -> None:
    training = {"epochs": 3, "lr": 0.2, "weight_decay": 0.03, "batch_size": 10}

    def played(rate: float) -> Bench:
        changes = settings("dispfl", target_density=0.3, readjust_rate=rate)
        return play(drive(tiny_experiment(**changes, rounds=6, training=training), Different(), f"{rate}"), rounds=6)

    assert on_what_tells(played(0.5)) > on_what_tells(played(0.0)) + 0.12


@pytest.mark.parametrize(("density", "kept"), [(0.5, (29, 25)), (0.75, (45, 36)), (1.0, (72, 36))])
def test_masks_are_denser_where_tensors_are_small_and_together_as_dense_as_asked_for(
    density: float, kept: tuple[int, int]
) -> None:
    """Shares go as 18/72 and 15/36; where that would be more than all, the other tensor has what is left."""
    strategy, table = (
        create_strategy(tiny_experiment(**settings("dispfl", target_density=density))),
        TensorTable.of(tiny_mlp()),
    )
    masks, again, others = (strategy.client_masks(client, table) for client in (1, 1, 2))
    assert tuple(int(unpack(masks[name], table[name].shape).sum()) for name in (W, "2.weight")) == kept
    assert all(np.array_equal(again[name], mask) for name, mask in masks.items())
    assert all(np.array_equal(others[name], mask) for name, mask in masks.items()) == (density == 1)
