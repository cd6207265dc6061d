"""Methods of sparse training, against their papers' algorithms in plain torch, over gRPC."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from tests.support.papers import LR, STEPS, Model, Played, assert_close, copied, data, fresh, mean

MATRICES = ("0.weight", "3.weight", "5.weight")
EXAMPLES = [12, 16, 20]


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
