"""FedPruning's arithmetic, step by step: a client's masked training, and FedRTS's votes and draws.

Derived again from github.com/FedPruning/FedPruning at 70698813: api/pruning/model_pruning.py (weights are masked before
every forward pass, gradients and steps are not), api/distributed/fedtinyclean/my_model_trainer_classification.py (SGD,
or Adam with AMSGrad), api/pruning/init_scheme.py (f_decay, ERK) and api/distributed/fedrts/FedRTSAggregator.py
(aggregate, ts_adj). None of its text is here.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lotteryfl.common.packedmasks import unpack
from lotteryfl.common.pruning.prune import apply_masks, make_permanent
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.training.loop import train
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.strategies.support.sharedmask import adjusted_share, adjusts, random_masks_by_size
from tests.support.bench import Bench, TinyTask, tiny_experiment, tiny_mlp
from tests.support.papers import tensors_of
from tests.support.playing import model, play

Tensors = dict[str, Tensor]

SGD: dict[str, Any] = {"lr": 0.2, "momentum": 0.0}
ADAM: dict[str, Any] = {
    "optimizer": "adam",
    "optimizer_options": {"amsgrad": True},
    "lr": 0.001,
    "weight_decay": 0.001,
}


def masked_steps(net: nn.Module, masks: Tensors, optimizer: torch.optim.Optimizer, batches: list[Any]) -> None:
    """Train as there: what is off the mask is set to 0 before a pass, and moves after it."""
    for inputs, labels in batches:
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                parameter.mul_(masks.get(name, torch.ones(())))
        optimizer.zero_grad()
        F.cross_entropy(net(inputs), labels).backward()
        optimizer.step()


@pytest.mark.parametrize("recipe", [SGD, ADAM])
def test_kept_weights_are_the_same_after_an_epoch(recipe: dict[str, Any]) -> None:
    """Of 27 examples in batches of 8, the last three are left out."""
    torch.manual_seed(0)
    theirs = tiny_mlp()
    masks = {name: torch.rand(p.shape) < 0.4 for name, p in theirs.named_parameters() if p.dim() > 1}
    ours = tiny_mlp()
    ours.load_state_dict(theirs.state_dict())
    apply_masks(ours, masks)
    inputs, labels = torch.randn(27, 6), torch.randint(3, (27,))
    order = torch.randperm(27, generator=torch.Generator().manual_seed(derive_seed(4, "shuffle")))
    batches = [(inputs[part], labels[part]) for part in order.split(8)][:3]
    options = {"lr": recipe["lr"], "weight_decay": 0.001, "amsgrad": True}
    sgd = torch.optim.SGD(theirs.parameters(), lr=recipe["lr"])
    optimizer = torch.optim.Adam(theirs.parameters(), **options) if recipe is ADAM else sgd
    masked_steps(theirs, {name: mask.float() for name, mask in masks.items()}, optimizer, batches)
    train(
        ours, TensorDataset(inputs, labels), recipe={"epochs": 1, "batch_size": 8, "drop_last": True, **recipe}, seed=4
    )
    make_permanent(ours)
    expected = dict(theirs.named_parameters())
    for name, found in ours.named_parameters():
        kept = masks.get(name, torch.ones_like(found, dtype=torch.bool))
        torch.testing.assert_close(found[kept], expected[name][kept], rtol=1e-5, atol=1e-7)
        assert not found[~kept].any()


def decay(t: int, alpha: float, end: int) -> float:
    return alpha / 2 * (1 + math.cos(math.pi * t / end))


def test_the_share_in_question_and_when_are_the_codes() -> None:
    """Every 10th round up to the 300th of 500."""
    strategy = {"name": "fedrts", "readjust_rate": 0.2, "readjust_every": 10, "readjust_until": 300}
    experiment = tiny_experiment(rounds=500, strategy=strategy)
    for t in (10, 20, 150, 300):
        assert adjusts(experiment, t)
        assert adjusted_share(experiment, t) == pytest.approx(decay(t, 0.2, 300))
    assert not any(adjusts(experiment, t) for t in (1, 11, 310))


def erk(sizes: dict[str, tuple[int, ...]], density: float) -> dict[str, float]:
    """Return densities by sum and product of sizes; where one were above 1, that tensor stays whole."""
    whole: set[str] = set()
    while True:
        rest = {name: sum(size) / math.prod(size) for name, size in sizes.items() if name not in whole}
        ones = sum(int(math.prod(sizes[name]) * density) for name in rest)
        zeros = sum(int(math.prod(sizes[name]) * (1 - density)) for name in whole)
        factor = (ones - zeros) / sum(share * math.prod(sizes[name]) for name, share in rest.items())
        most = max(rest.values())
        if factor * most <= 1:
            return {**dict.fromkeys(whole, 1.0), **{name: factor * share for name, share in rest.items()}}
        whole |= {name for name, share in rest.items() if share == most}


@pytest.mark.parametrize("density", [0.1, 0.5])
def test_densities_by_size_are_the_codes(density: float) -> None:
    """But for its rounding of every layer's share of the zeros and ones."""
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3), nn.Conv2d(32, 64, 1), nn.Linear(64, 10))
    table = TensorTable.of(net)
    masks = random_masks_by_size(table, density, seed=0)
    sizes = {spec.name: tuple(spec.shape) for spec in table if spec.prunable}
    for name, expected in erk(sizes, density).items():
        found = unpack(masks[name], torch.Size(sizes[name])).float().mean().item()
        assert found == pytest.approx(expected, abs=0.003)


def gradients_of(net: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(F.cross_entropy(net(inputs), labels), list(net.parameters()))


def voted(values: Tensor, among: Tensor, count: int) -> Tensor:
    """Return ones at so many of the largest magnitudes among some places, as there: by indices."""
    places = among.flatten().nonzero().flatten()
    found = torch.zeros(values.numel())
    found[places[values.flatten()[places].abs().topk(count).indices]] = 1
    return found.view_as(values)


def masks_of(bench: Bench) -> Tensors:
    packed = bench.run.load_masks(bench.run.shared_mask.digest)
    return {name: unpack(mask, bench.run.table[name].shape) for name, mask in packed.items()}


def test_votes_become_the_codes_distributions_and_they_its_mask(drive: Any) -> None:
    """Rounds 1 and 2, of which the second looks at gradients too, and draws."""
    gamma, strength, rate, until = 0.5, 10.0, 0.4, 3
    options = {"gamma": gamma, "strength": strength}
    exchange = {"readjust_rate": rate, "readjust_every": 2, "readjust_until": until}
    experiment = tiny_experiment(
        strategy={"name": "fedrts", "target_density": 0.5, "options": options, **exchange},
        training={"epochs": 2, "batch_size": 100, "lr": 0.1, "momentum": 0.0},
        aggregation={"weighting": "equal"},
        clients=3,
        clients_per_round=3,
        rounds=8,
    )
    bench = drive(experiment)
    masks = masks_of(bench)
    alphas = {name: torch.ones(mask.shape) for name, mask in masks.items()}
    betas = {name: torch.ones(mask.shape) for name, mask in masks.items()}
    shared = {name: value for name, value in model(bench, 0).items() if ":" not in name}
    for t in (1, 2):
        nets: list[Tensors] = []
        asked_by: list[Tensors] = []
        for client in range(3):
            net = tiny_mlp()
            net.load_state_dict(shared)
            data = tensors_of(TinyTask(), client)
            masked_steps(
                net, {n: m.float() for n, m in masks.items()}, torch.optim.SGD(net.parameters(), lr=0.1), [data] * 2
            )
            with torch.no_grad():
                for name, parameter in net.named_parameters():
                    parameter.mul_(masks.get(name, torch.ones(())))
            nets.append({name: parameter.detach() for name, parameter in net.named_parameters()})
            asked_by.append(dict(zip(nets[-1], gradients_of(net, *data), strict=True)))
        shared = {name: sum((net[name] for net in nets), torch.zeros(())) / 3 for name in shared}
        for name, mask in masks.items():
            active = int(mask.sum())
            moved = int(decay(t, rate, until) * active)
            of_clients = sum((voted(net[name], mask, active - moved) for net in nets), torch.zeros(())) / 3
            said = ((1 - gamma) * voted(shared[name], mask, active - moved) + gamma * of_clients)[mask]
            alphas[name][mask] += strength * said
            betas[name][mask] += strength * (1 - said)
            if t == 2:
                asked = [voted(each[name], ~mask, min(moved, int((~mask).sum()))) for each in asked_by]
                said = ((1 - gamma) * 0.5 + gamma * sum(asked, torch.zeros(())) / 3)[~mask]
                alphas[name][~mask] += strength * said
                betas[name][~mask] += strength * (1 - said)
        play(bench)
        found = model(bench)
        for name in masks:
            torch.testing.assert_close(found[f"alpha:{name}"], alphas[name])
            torch.testing.assert_close(found[f"beta:{name}"], betas[name])
            torch.testing.assert_close(found[name], shared[name] * masks_of(bench)[name], rtol=1e-5, atol=1e-7)
    drawn = masks_of(bench)
    assert {name: int(mask.sum()) for name, mask in drawn.items()} == {name: int(m.sum()) for name, m in masks.items()}
    assert any(not torch.equal(drawn[name], masks[name]) for name in masks)
    means = {name: alphas[name] / (alphas[name] + betas[name]) for name in masks}
    kept, left = (
        np.mean([float(means[n][pick(drawn[n])].mean()) for n in masks]) for pick in (lambda m: m, lambda m: ~m)
    )
    assert kept > left
