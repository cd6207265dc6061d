"""Methods that train head and body apart, against their papers' algorithms in plain torch, over gRPC."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from tests.support.papers import LR, STEPS, Model, Played, assert_close, copied, data, fresh, mean

HEAD = ("5.weight", "5.bias")
EXAMPLES = [12, 16, 20]


def descend(net: nn.Module, inputs: Tensor, labels: Tensor, steps: int, names: Sequence[str]) -> None:
    """Take steps by some of the parameters."""
    net.train()
    parameters = [net.get_parameter(name) for name in names]
    for _ in range(steps):
        gradients = torch.autograd.grad(F.cross_entropy(net(inputs), labels), parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(LR * gradient)


def body_of(net: nn.Module) -> list[str]:
    return [name for name, _ in net.named_parameters() if name not in HEAD]


# ---- FedRep, Algorithm 1


@pytest.mark.parametrize(("options", "body_steps"), [({}, 1), ({"body": 2}, 2)])
def test_fedrep_trains_the_head_and_then_the_body(
    play: Callable[..., Played], options: dict[str, Any], body_steps: int
) -> None:
    played = play({"name": "fedrep", "options": options}, aggregation={"weighting": "equal"})
    shared, clients = copied(fresh().state_dict()), [copied(fresh().state_dict())] * 3
    for _ in range(2):
        results: list[Model] = []
        for client in range(3):
            net, examples = fresh(), data(played.run, client)
            net.load_state_dict({**shared, **{name: clients[client][name] for name in HEAD}})
            descend(net, *examples, STEPS - body_steps, HEAD)
            descend(net, *examples, body_steps, body_of(net))
            results.append(copied(net.state_dict()))
        clients = results
        averaged = mean(results, [1, 1, 1])
        shared = {name: shared[name] if name in HEAD else averaged[name].float() for name in shared}
    assert_close(played.models[2], shared, leaving_out=["1.num_batches_tracked"])
    for client in range(3):
        assert_close(played.sent[client], clients[client])


# ---- FedBABU, Algorithm 1


def test_fedbabu_trains_the_body_under_the_head_that_it_began_with(play: Callable[..., Played]) -> None:
    played = play({"name": "fedbabu"})
    shared, results = copied(fresh().state_dict()), list[Model]()
    for _ in range(2):
        results = []
        for client in range(3):
            net = fresh()
            net.load_state_dict(shared)
            descend(net, *data(played.run, client), STEPS, body_of(net))
            results.append(copied(net.state_dict()))
        averaged = mean(results, EXAMPLES)
        shared = {name: averaged[name].to(value.dtype) for name, value in shared.items()}
    assert_close(played.models[2], shared, leaving_out=["1.num_batches_tracked"])
    for client in range(3):
        assert_close(played.sent[client], results[client])
    for name in HEAD:
        assert torch.equal(played.models[2][name], played.models[0][name])
