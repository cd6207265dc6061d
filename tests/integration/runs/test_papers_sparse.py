"""Methods of sparse training, against their papers' algorithms in plain torch, over gRPC."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from lotteryfl.common.packedmasks import unpack
from lotteryfl.server.strategies import create_strategy
from lotteryfl.server.strategies.support.firstmasks import first_masks
from tests.support.normed_task import examples
from tests.support.papers import LR, STEPS, Model, Played, assert_close, copied, data, fresh, mean, train

MATRICES = ("0.weight", "3.weight", "5.weight")
EXAMPLES = [examples(client) for client in range(3)]


# ---- SparsyFed, section 3


class Layer(torch.autograd.Function):
    """A linear layer whose weight's gradient is of the largest inputs, as many as its weight is dense."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, prunes: bool) -> Tensor:
        kept = round(int((weight != 0).sum()) / weight.numel() * inputs.numel()) if prunes else inputs.numel()
        least = inputs.abs().flatten().sort(descending=True).values[kept - 1]
        ctx.save_for_backward(torch.where(inputs.abs() >= least, inputs, 0), weight)
        return inputs @ weight.T + bias

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        inputs, weight = ctx.saved_tensors
        return gradient @ weight, gradient.T @ inputs, gradient.sum(dim=0), None


def power(values: Tensor, exponent: float) -> Tensor:
    return values.sign() * values.abs() ** exponent


def powerprop(start: Model, inputs: Tensor, labels: Tensor, beta: float, *, prunes: bool) -> Model:
    net = fresh()
    net.load_state_dict({name: power(value, 1 / beta) if name in MATRICES else value for name, value in start.items()})
    net.train()
    names = [name for name, _ in net.named_parameters()]

    def layer(number: int, values: Tensor) -> Tensor:
        phi, bias = net.get_parameter(f"{number}.weight"), net.get_parameter(f"{number}.bias")
        found: Tensor = Layer.apply(values, power(phi, beta), bias, prunes)
        return found

    for _ in range(STEPS):
        hidden = layer(3, F.relu(net.get_submodule("1")(layer(0, inputs))))
        loss = F.cross_entropy(layer(5, F.relu(hidden)), labels)
        gradients = torch.autograd.grad(loss, [net.get_parameter(name) for name in names])
        with torch.no_grad():
            for name, gradient in zip(names, gradients, strict=True):
                net.get_parameter(name).sub_(LR * gradient)
    found = copied(net.state_dict())
    weights = {name: power(found[name], beta) for name in MATRICES}
    magnitudes = torch.cat([weight.abs().flatten() for weight in weights.values()])
    least = magnitudes.sort(descending=True).values[magnitudes.numel() // 4 - 1]
    return found | {name: torch.where(weight.abs() >= least, weight, 0) for name, weight in weights.items()}


@pytest.mark.parametrize(
    ("options", "beta", "prunes"),
    [({}, 1.25, True), ({"beta": 2.0, "prune_activations": False}, 2.0, False)],
)
def test_sparsyfed_trains_powers_and_keeps_the_largest(
    play: Callable[..., Played], options: dict[str, Any], beta: float, prunes: bool
) -> None:
    played = play({"name": "sparsyfed", "target_density": 0.25, "options": options})
    shared, results = copied(fresh().state_dict()), list[Model]()
    for _ in range(2):
        results = [powerprop(shared, *data(played.run, client), beta, prunes=prunes) for client in range(3)]
        shared = {name: value.to(shared[name].dtype) for name, value in mean(results, EXAMPLES).items()}
    assert_close(played.models[2], shared, leaving_out=["1.num_batches_tracked"])
    for client in range(3):
        assert_close(played.sent[client], results[client])
    assert all(played.models[1][name].count_nonzero() < played.models[1][name].numel() for name in MATRICES)


# ---- DisPFL, Algorithms 1 and 2


def dense_gradients(net: nn.Module, inputs: Tensor, labels: Tensor) -> Model:
    net.eval()
    weights = [net.get_parameter(name) for name in MATRICES]
    return dict(zip(MATRICES, torch.autograd.grad(F.cross_entropy(net(inputs), labels), weights), strict=True))


def exchanged(mask: Tensor, weight: Tensor, gradient: Tensor, share: float) -> Tensor:
    """Algorithm 2: the smallest go, and as many of greatest gradient come."""
    count = min(round(share * int(mask.sum())), int((mask == 0).sum()))
    new = mask.clone().flatten()
    new[torch.where(mask > 0, weight.abs(), torch.inf).flatten().argsort()[:count]] = 0
    new[torch.where(mask > 0, -1, gradient.abs()).flatten().argsort(descending=True)[:count]] = 1
    return new.view_as(mask)


def test_dispfl_starts_from_the_mean_over_those_who_keep_a_weight_and_exchanges(play: Callable[..., Played]) -> None:
    strategy = {"name": "dispfl", "target_density": 0.4, "readjust_rate": 0.6}
    played = play(strategy, aggregation={"weighting": "equal"})
    run = played.run
    shared = copied(fresh().state_dict())
    drawn = first_masks(create_strategy(run.experiment), run.table)  # any will do, of these sizes
    masks = [{name: unpack(each[name], shared[name].shape).float() for name in MATRICES} for each in drawn]
    for name, kept in zip(MATRICES, (19, 21, 15), strict=True):  # shares go as 14/48, 16/64 and 11/24: times 1.327
        assert [int(mask[name].sum()) for mask in masks] == [kept] * 3
        assert len({tuple(mask[name].flatten().tolist()) for mask in masks}) == 3, "no mask of its own"
    results = list[Model]()
    for round_ in range(2):
        results, new = [], list[Model]()
        share = 0.6 / 2 * (1 + math.cos(round_ * math.pi / 2))
        for client, mask in enumerate(masks):
            net, examples = fresh(), data(run, client)
            net.load_state_dict({name: value * mask.get(name, 1) for name, value in shared.items()})
            found = train(net, *examples, mask)
            gradients = dense_gradients(net, *examples)
            new.append({name: exchanged(mask[name], found[name], gradients[name], share) for name in MATRICES})
            results.append(found | {name: found[name] * mask[name] * new[-1][name] for name in MATRICES})
            assert all(not torch.equal(mask[name], new[-1][name]) for name in MATRICES)
        averaged = mean(results, [1, 1, 1])
        for name in MATRICES:  # of those who have trained it, and keep it
            total = torch.stack([result[name] for result in results]).double().sum(dim=0)
            count = torch.stack([old[name] * each[name] for old, each in zip(masks, new, strict=True)]).sum(dim=0)
            averaged[name] = torch.where(count > 0, total / count, shared[name].double())
        shared, masks = {name: value.to(shared[name].dtype) for name, value in averaged.items()}, new
    assert_close(played.models[2], shared, leaving_out=["1.num_batches_tracked"])
    for client in range(3):
        assert_close(played.sent[client], results[client])
        after = run.load_masks(run.database.client(client).mask)
        for name in MATRICES:
            assert torch.equal(unpack(after[name], shared[name].shape), masks[client][name].bool())
