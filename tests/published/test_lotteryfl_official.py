"""LotteryFL's official code, step by step: what `strategy.preset = "paper"` brings back.

Derived again from github.com/charleslipku/LotteryFL at 6b05c9c2: src/utils.py (prune_by_percentile, mask_model,
average_weights_with_masks, mix_global_weights), src/update.py (SGD with momentum 0.5, no gradient for a weight that is
0) and src/lotteryFL.py (prune, rewind all, train, average). None of its text is here.
"""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from lotteryfl.common.models import create_model
from lotteryfl.common.pruning.parameters import named_masks
from lotteryfl.common.pruning.prune import prune_fixed_amount
from tests.support.bench import TinyTask, tiny_experiment, tiny_mlp
from tests.support.papers import tensors_of
from tests.support.playing import mask_of, model, play, ticket

Tensors = dict[str, Tensor]


def by_percentile(weight: np.ndarray[Any, Any], mask: np.ndarray[Any, Any], percent: float) -> np.ndarray[Any, Any]:
    """Return a mask without the weights below a percentile of those that are not 0."""
    below = np.abs(weight) < np.percentile(np.abs(weight[weight != 0]), percent)
    return np.where(below, 0, mask)


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_pruning_by_layer_is_pruning_by_percentile(dataset: str) -> None:
    """But for one weight where a percentile lies between two: it is rounded up there, to the nearest here."""
    torch.manual_seed(0)
    net = create_model(dataset, "cnn")
    expected: dict[str, Any] = {}
    for _ in range(3):
        weights = {name: tensor.detach().numpy() for name, tensor in net.state_dict().items() if "weight" in name}
        weights = {name.removesuffix("_orig"): w for name, w in weights.items() if not name.endswith("_mask")}
        masks = {name: mask.numpy() for name, mask in named_masks(net).items()}
        for name, weight in weights.items():
            held = masks.get(name, np.ones_like(weight))
            expected[name] = by_percentile(weight * held, held, 20)
        prune_fixed_amount(net, 0.2, verbose=False, scope="layer")
        found = {name: mask.numpy() for name, mask in named_masks(net).items()}
        assert found.keys() == expected.keys()
        assert sum(int((found[name] != expected[name]).sum()) for name in found) <= 1
    assert all((found[name] == expected[name]).all() for name in found if found[name].size > 1000)


def trained(net: nn.Module, inputs: Tensor, labels: Tensor) -> Tensors:
    """Take four steps on one batch; a weight that is 0 has no gradient."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.5)
    for _ in range(4):
        optimizer.zero_grad()
        F.nll_loss(F.log_softmax(net(inputs), dim=1), labels).backward()
        for name, parameter in net.named_parameters():
            if "weight" in name and parameter.grad is not None:
                parameter.grad = torch.where(parameter.detach().abs() < 1e-6, 0.0, parameter.grad)
        optimizer.step()
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def averaged(last: Tensors, sent: list[Tensors], masks: list[dict[str, Tensor]]) -> Tensors:
    """Return the mean of each weight over those who keep it, the last one where nobody does, and of biases over all."""
    mixed: Tensors = {}
    for name, old in last.items():
        total = sum((each[name] for each in sent), torch.zeros(()))
        count = (
            sum((each[name].float() for each in masks), torch.zeros(()))
            if "weight" in name
            else torch.tensor(len(sent))
        )
        mixed[name] = torch.where(count < 1, old, total / count.clamp(min=1))
    return mixed


def test_three_rounds_are_the_official_codes(drive: Any) -> None:
    """Gate passed: every round prunes a third of each layer's kept weights, rewinds all, trains and averages."""
    experiment = tiny_experiment(
        strategy={"preset": "paper", "prune_rate": 1 / 3, "target_density": 0.3},
        training={"epochs": 4, "batch_size": 100, "lr": 0.01, "momentum": 0.5},
        clients=3,
        clients_per_round=3,
        rounds=4,
    )
    bench = drive(experiment)
    shared = initial = model(bench, 0)
    masks = [{name: torch.ones_like(each) for name, each in initial.items() if "weight" in name} for _ in range(3)]
    for round_ in (1, 2, 3):
        sent: list[Tensors] = []
        for client, held in enumerate(masks):
            for name, mask in held.items():
                mask.copy_(torch.from_numpy(by_percentile((shared[name] * mask).numpy(), mask.numpy(), 100 / 3)))
            net = tiny_mlp()
            net.load_state_dict({name: value * held.get(name, torch.ones(())) for name, value in initial.items()})
            sent.append(trained(net, *tensors_of(TinyTask(), client)))
        shared = averaged(shared, sent, masks)
        play(bench)
        for client, (own, held) in enumerate(zip(sent, masks, strict=True)):
            for name in held:
                assert torch.equal(mask_of(bench, client, name), held[name].bool()), (round_, name)
            for name, found in ticket(bench, client).items():
                torch.testing.assert_close(found, own[name], rtol=1e-5, atol=1e-7)
        for name, found in model(bench).items():
            torch.testing.assert_close(found, shared[name], rtol=1e-5, atol=1e-7)
