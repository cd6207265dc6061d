"""DP-SGD against its definition, gradient by gradient."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lotteryfl.common.errors import TaskError
from lotteryfl.common.noise import gaussian, uniform
from lotteryfl.common.pruning.parameters import named_masks, named_tensors
from lotteryfl.common.pruning.prune import prune_fixed_amount
from lotteryfl.common.training.dpsgd import ExamplePrivacy, train_privately
from lotteryfl.common.training.recipe import Recipe, TrainingSettings

EXAMPLES = 30


def data() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    inputs = torch.randn(EXAMPLES, 6, generator=random)
    return inputs, inputs[:, :3].argmax(dim=1)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def recipe(epochs: int = 1, proximal: float = 0.0, seed: int = 0, **settings: Any) -> Recipe:
    settings = {"lr": 0.1, "momentum": 0.0, "batch_size": 32, **settings}
    return Recipe(TrainingSettings.model_construct(**settings), epochs, proximal, seed)


def by_hand(model: nn.Module, batches: list[Tensor], bound: float, lr: float, expected: int, pull: float = 0.0) -> None:
    """Algorithm 1 without noise: every example's gradient by its own backward, masked, then clipped."""
    inputs, labels = data()
    masks = named_masks(model)
    parameters = named_tensors(model)
    for name, mask in masks.items():
        parameters[name] *= mask
    start = {name: values.clone() for name, values in parameters.items()}
    for batch in batches:
        total = {name: torch.zeros_like(values) for name, values in parameters.items()}
        for index in batch.tolist():
            plain = net()
            plain.load_state_dict(parameters)
            F.cross_entropy(plain(inputs[index : index + 1]), labels[index : index + 1]).backward()
            own: dict[str, Tensor] = {}
            for name, parameter in plain.named_parameters():
                assert parameter.grad is not None
                own[name] = parameter.grad * masks.get(name, 1)
            norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in own.values()))
            for name, gradient in own.items():
                total[name] += gradient * min(1.0, bound / norm)
        for name, values in parameters.items():
            step = total[name] / expected + pull * (values - start[name])
            values -= lr * step * masks.get(name, 1)


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize(("batch_size", "expected"), [(4, 4), (1, 1), (64, EXAMPLES)])
@pytest.mark.parametrize("proximal", [0.0, 0.5])
def test_without_noise_a_training_is_that_of_the_definition(
    pruned: bool, batch_size: int, expected: int, proximal: float
) -> None:
    model, reference = net(), net()
    if pruned:
        prune_fixed_amount(model, 0.5, verbose=False)
        prune_fixed_amount(reference, 0.5, verbose=False)
    steps = 2 * math.ceil(EXAMPLES / expected)
    privacy = ExamplePrivacy(0.3, 0.0, np.random.default_rng(7).bytes)
    result = train_privately(model, data(), recipe(2, proximal, lr=0.2, batch_size=batch_size), privacy)
    source = np.random.default_rng(7).bytes
    batches = [(uniform(EXAMPLES, source) < expected / EXAMPLES).nonzero().flatten() for _ in range(steps)]
    if batch_size == 1:
        assert any(len(batch) == 0 for batch in batches)
    by_hand(reference, batches, 0.3, 0.2, expected, proximal)
    assert (result.steps, result.examples) == (steps, EXAMPLES)
    found = named_tensors(model)
    for name, values in named_tensors(reference).items():
        torch.testing.assert_close(found[name], values, atol=1e-6, rtol=1e-5)
    for name, mask in named_masks(model).items():
        assert not found[name][mask == 0].any()


def test_noise_is_of_its_deviation_and_none_is_where_weights_are_pruned() -> None:
    model = nn.Linear(300, 100)
    torch.nn.init.zeros_(model.weight)
    with torch.no_grad():
        model.weight[:, :150] = 1.0
    prune_fixed_amount(model, 0.5, verbose=False)
    before = {name: values.clone() for name, values in named_tensors(model).items()}
    inputs = torch.zeros(5, 300)
    privacy = ExamplePrivacy(2.0, 3.0, np.random.default_rng(1).bytes)
    train_privately(model, (inputs, torch.zeros(5, dtype=torch.int64)), recipe(lr=1.0, batch_size=5), privacy)
    change = named_tensors(model)["weight"] - before["weight"]
    kept = named_masks(model)["weight"] == 1
    assert not change[~kept].any()
    assert float(change[kept].std()) == pytest.approx(3.0 * 2.0 / 5, rel=0.03)


def test_every_value_of_the_noise_takes_bytes_of_its_own() -> None:
    """As with an update's noise: nothing smaller than the noise itself gives it away."""
    drawn: list[int] = []

    def source(size: int) -> bytes:
        drawn.append(size)
        return recorded.bytes(size)

    recorded = np.random.default_rng(5)
    noisy, quiet = net(), net()
    train_privately(noisy, data(), recipe(lr=0.5, batch_size=64), ExamplePrivacy(0.3, 2.0, source))
    train_privately(
        quiet, data(), recipe(lr=0.5, batch_size=64), ExamplePrivacy(0.3, 0.0, np.random.default_rng(5).bytes)
    )
    assert drawn == [8 * size for size in (EXAMPLES, *(values.numel() for values in noisy.parameters()))]
    again = np.random.default_rng(5)
    again.bytes(8 * EXAMPLES)  # who is in the batch
    for values, without in zip(noisy.parameters(), quiet.parameters(), strict=True):
        noise = gaussian(values.numel(), 2.0 * 0.3 / EXAMPLES, again.bytes).view(values.shape)
        torch.testing.assert_close((values - without).detach().double(), -0.5 * noise, atol=1e-6, rtol=0)


def test_dropout_alone_goes_by_the_seed() -> None:
    found = []
    for _ in range(2):
        model = net()
        train_privately(model, data(), recipe(batch_size=4, seed=1), ExamplePrivacy(1.0, 1.0))
        found.append(named_tensors(model)["0.weight"].clone())
    assert not torch.equal(*found)


def test_nothing_of_it_is_left_in_the_model_whatever_happens() -> None:
    model = net()

    def stop(epoch: int, step: int, loss: Tensor) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_privately(model, data(), recipe(), ExamplePrivacy(1.0, 1.0), on_step=stop)
    assert not any(hasattr(parameter, "grad_sample") for parameter in model.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


def test_batch_norm_mixes_examples_and_is_refused() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    with pytest.raises(TaskError, match=r"privacy\.dp_sgd: no example has a gradient of its own .*BatchNorm"):
        train_privately(model, data(), recipe(), ExamplePrivacy(1.0, 1.0))


@pytest.mark.parametrize("option", ["epochs", "batch_size"])
def test_options_are_checked(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}=0: expected at least 1"):
        train_privately(net(), data(), recipe(**{option: 0}), ExamplePrivacy(1.0, 1.0))
