"""Strategies of plans alone against their papers' algorithms in plain torch: two rounds of three clients over gRPC."""

import copy
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from lotteryfl.common.packedmasks import unpack
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.normed_task import examples
from tests.support.papers import Model, Played, assert_close, copied, data, fresh, mean, train

# ---- some layers are each client's own: FedBN's Algorithm 1, FedPer's Algorithms 1 and 2


def partly_own(run: RunDirectory, own: Sequence[str], weights: Sequence[float]) -> tuple[Model, list[Model]]:
    """Return the shared model after two rounds, and what the clients have then."""
    shared, clients = copied(fresh().state_dict()), [copied(fresh().state_dict())] * 3
    for _ in range(2):
        results = []
        for client in range(3):
            net = fresh()
            net.load_state_dict({**shared, **{name: clients[client][name] for name in own}})
            results.append(train(net, *data(run, client)))
        clients = results
        averaged = mean(results, weights)
        shared = {name: shared[name] if name in own else averaged[name].float() for name in shared}
    return shared, clients


NORM = tuple(f"1.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"))
HEAD = ("5.weight", "5.bias")


@pytest.mark.parametrize(
    ("name", "own", "weighting", "weights"),
    [("fedbn", NORM, "equal", [1, 1, 1]), ("fedper", HEAD, "examples", [6, 18, 54])],
)
def test_layers_of_a_clients_own(
    play: Callable[..., Played], name: str, own: Sequence[str], weighting: str, weights: Sequence[float]
) -> None:
    played = play({"name": name}, aggregation={"weighting": weighting})
    shared, clients = partly_own(played.run, own, weights)
    # A counter is the client's of most examples, in a mean or not.
    assert_close(played.models[2], shared, leaving_out=["1.num_batches_tracked"])
    for client in range(3):
        assert_close(played.sent[client], clients[client])


# ---- SSFL as its code has it


def test_ssfl_of_everyone(play: Callable[..., Played]) -> None:
    """All four clients are asked, three train; the largest sums of |gradient x weight| are kept."""
    played = play({"name": "ssfl", "saliency_from": "everyone", "target_density": 0.4}, clients=4)
    run, database = played.run, played.run.database
    assert [row.client for row in database.assignments(1)] == [0, 1, 2, 3]
    net = fresh()
    matrices = [name for name, parameter in net.named_parameters() if parameter.dim() > 1]
    scores = [saliency(net, matrices, *data(run, client)) for client in range(4)]
    masks = top(torch.stack(scores).sum(dim=0), net, matrices)
    kept = run.load_masks(run.shared_mask.digest)
    for name in matrices:
        assert torch.equal(unpack(kept[name], masks[name].shape), masks[name].bool())
    sampled = [row.client for row in database.assignments(2)]
    assert len(sampled) == 3
    for others in (sampled, range(4)):
        weighted = torch.stack([examples(client) * scores[client] for client in others]).sum(dim=0)
        assert any(not torch.equal(top(weighted, net, matrices)[name], masks[name]) for name in matrices), (
            "no test of it"
        )
    results = []
    for client in sampled:
        net = fresh()
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                parameter.mul_(masks.get(name, torch.ones(())))
        results.append(train(net, *data(run, client), masks))
    expected = mean(results, [examples(client) for client in sampled])
    assert_close(played.models[2], expected, leaving_out=["1.num_batches_tracked"])


def saliency(net: nn.Module, names: Sequence[str], inputs: Tensor, labels: Tensor) -> Tensor:
    net = copy.deepcopy(net).eval()
    weights = [net.get_parameter(name) for name in names]
    gradients = torch.autograd.grad(F.cross_entropy(net(inputs), labels), weights)
    return torch.cat([(g * w).detach().abs().flatten() for g, w in zip(gradients, weights, strict=True)]).double()


def top(scores: Tensor, net: nn.Module, names: Sequence[str]) -> dict[str, Tensor]:
    kept = torch.zeros_like(scores, dtype=torch.float32)
    kept[scores.topk(round(0.4 * scores.numel())).indices] = 1
    parts = kept.split([net.get_parameter(name).numel() for name in names])
    return {name: part.view_as(net.get_parameter(name)) for name, part in zip(names, parts, strict=True)}


# ---- HeteroFL, Algorithm 1


def narrow(units: int) -> nn.Module:
    """The task's model with so many units in every hidden layer: what a client of that width holds."""
    return nn.Sequential(
        nn.Linear(6, units), nn.BatchNorm1d(units), nn.ReLU(), nn.Linear(units, units), nn.ReLU(), nn.Linear(units, 3)
    )


def part(whole: Mapping[str, Tensor], shapes: Mapping[str, Tensor]) -> Model:
    """Return the first entries along every axis."""
    return {name: whole[name][tuple(map(slice, small.shape))].clone() for name, small in shapes.items()}


def test_heterofl_averages_narrower_models_over_those_who_have_a_weight(play: Callable[..., Played]) -> None:
    """The oracle trains narrow models, which know no mask, and counts for every weight who has it."""
    strategy = {"name": "heterofl", "widths": [1.0, 0.5, 0.3], "prunable": "every-parameter"}
    played = play(strategy, aggregation={"weighting": "equal"})
    shared, own = copied(fresh().state_dict()), [dict[str, Tensor]()] * 3
    statistics = NORM[2:]
    for _ in range(2):
        results = []
        for client, units in enumerate((8, 4, 3)):
            net = narrow(units)
            net.load_state_dict({**part(shared, net.state_dict()), **own[client]})
            results.append(train(net, *data(played.run, client)))
        own = [{name: result[name] for name in statistics} for result in results]
        for name in shared.keys() - set(statistics):
            total, count = torch.zeros(shared[name].shape), torch.zeros(shared[name].shape)
            for result in results:
                held = tuple(map(slice, result[name].shape))
                total[held] += result[name]
                count[held] += 1
            shared[name] = total / count
    assert_close(played.models[2], shared)
    for client, result in enumerate(results):
        sent = played.sent[client]
        assert_close(part(sent, result), result)
        for name in result.keys() - set(statistics):
            assert int(sent[name].count_nonzero()) == result[name].count_nonzero(), "more than it holds"
