"""The pieces of DisPFL's protocol against its published code's steps, taken in plain torch and numpy.

Derived again from github.com/rong-dai/DisPFL at e2f47d4a, none of whose text is here:
fedml_api/standalone/DisPFL/my_model_trainer.py (densities, a step) and client.py (what goes and what comes).
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch.utils.data import TensorDataset

from lotteryfl.common import packedmasks
from lotteryfl.common.models import create_model
from lotteryfl.common.pruning.parameters import named_masks
from lotteryfl.common.pruning.prune import apply_masks, make_permanent
from lotteryfl.common.pruning.regrowth import exchange_weights
from lotteryfl.common.training.loop import train
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protocols import protocol
from lotteryfl.server.strategies import STRATEGIES
from lotteryfl.server.strategies.base import ClientState
from lotteryfl.server.strategies.support.sharedmask import random_masks_by_size


def erdos_renyi_kernel(shapes: dict[str, tuple[int, ...]], density: float) -> dict[str, float]:
    """Return each tensor's share: ε · sum(shape) / prod(shape); what would be over 1 is whole, and ε from the rest."""
    whole: set[str] = set()
    while True:
        ratios = {name: sum(shape) / math.prod(shape) for name, shape in shapes.items() if name not in whole}
        wanted = sum(density * math.prod(shapes[name]) for name in ratios)
        wanted -= sum((1 - density) * math.prod(shapes[name]) for name in whole)
        epsilon = wanted / sum(ratio * math.prod(shapes[name]) for name, ratio in ratios.items())
        largest = max(ratios.values())
        if largest * epsilon <= 1:
            return {name: 1.0 if name in whole else epsilon * ratios[name] for name in shapes}
        whole |= {name for name, ratio in ratios.items() if ratio == largest}


@pytest.mark.parametrize("density", [0.5, 0.1])
def test_masks_have_the_published_shares_of_every_tensor(density: float) -> None:
    with torch.device("meta"):
        table = TensorTable.of(create_model("cifar10", "resnet18-gn"))
    shapes = {spec.name: tuple(spec.shape) for spec in table if spec.prunable}
    masks = random_masks_by_size(table, density, 0)
    for name, share in erdos_renyi_kernel(shapes, density).items():
        size = math.prod(shapes[name])
        kept = packedmasks.unpack(masks[name], shapes[name]).sum() if name in masks else size
        assert int(kept) == pytest.approx(share * size, abs=1.5)


def test_the_share_that_is_exchanged_goes_as_published() -> None:
    experiment = protocol("dispfl-cifar10").experiment
    strategy = STRATEGIES["dispfl"](experiment)
    for round_ in (1, 2, 250, 500):
        published = 0.5 / 2 * (1 + np.cos((round_ - 1) * np.pi / 500))
        assert strategy.plan(round_, ClientState(0)).readjust.rate == pytest.approx(published)


def masked_cnn() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    torch.manual_seed(3)
    model = create_model("cifar10", "cnn-nodrop")
    names = [name for name, parameter in model.named_parameters() if parameter.dim() > 1]
    masks = {name: torch.rand(dict(model.named_parameters())[name].shape) < 0.5 for name in names}
    apply_masks(model, masks)
    return model, masks


def test_a_step_leaves_what_is_pruned_at_0_and_is_that_of_plain_sgd() -> None:
    model, masks = masked_cnn()
    make_permanent(model)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inputs, labels = torch.randn(12, 3, 32, 32), torch.arange(12) % 10

    expected = create_model("cifar10", "cnn-nodrop")
    expected.load_state_dict(start)
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1 * 0.998**0, momentum=0.0, weight_decay=5e-4)
    F.cross_entropy(expected(inputs), labels).backward()
    assert torch.nn.utils.clip_grad_norm_(expected.parameters(), 10) < 10  # where it is bounded, ours differs
    optimizer.step()
    with torch.no_grad():
        for name, parameter in expected.named_parameters():
            parameter.mul_(masks.get(name, torch.ones(())))

    apply_masks(model, masks)
    recipe = {"epochs": 1, "batch_size": 12, "lr": 0.1, "momentum": 0.0, "weight_decay": 5e-4, "clip_grad_norm": 10.0}
    train(model, TensorDataset(inputs, labels), recipe=recipe, seed=0)
    make_permanent(model)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name], rtol=1e-5, atol=1e-7)


def test_what_goes_and_what_comes_is_as_published_but_for_what_has_just_gone() -> None:
    model, masks = masked_cnn()
    rate, gradients = 0.3, {name: torch.randn(mask.shape) for name, mask in masks.items()}
    values = {name: module_weight(model, name).clone() for name in masks}
    exchange_weights(model, rate, gradients)
    for name, new in named_masks(model).items():
        old, count = masks[name], round(rate * int(masks[name].sum()))
        assert count in (math.ceil(rate * int(old.sum())), math.ceil(rate * int(old.sum())) - 1)
        order = torch.where(old, values[name].abs(), torch.tensor(100000.0)).flatten().sort().indices
        left = old.clone()
        left.view(-1)[order[:count]] = False
        assert torch.equal(new.bool() & old, left)
        candidates = torch.where(old, torch.tensor(-100000.0), gradients[name].abs()).flatten()
        entered = torch.zeros_like(old)
        entered.view(-1)[candidates.sort(descending=True).indices[:count]] = True
        assert torch.equal(new.bool() & ~old, entered)


def module_weight(model: torch.nn.Module, name: str) -> torch.Tensor:
    weight = model.get_submodule(name.rpartition(".")[0]).weight
    assert isinstance(weight, torch.Tensor)
    return weight.detach()
