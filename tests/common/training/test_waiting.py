"""A step of a training waits for no number of the device: losses and checks are fetched when it is over."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lotteryfl.common.packedmasks import bits_of, gather_there, mask_of, pack, scatter_there
from lotteryfl.common.pruning.pruned import Pruned
from lotteryfl.common.training.examples import Examples
from lotteryfl.common.training.loop import train_by_recipe
from lotteryfl.common.training.objective import Labelled
from lotteryfl.common.training.recipe import Recipe, TrainingSettings
from lotteryfl.common.training.steps import Steps, mask_gradients
from tests.support.devices import DEVICES, ELSEWHERE, play_card

WAITING = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.nonzero.default,
}
"""What cannot go on before a device has come so far."""


class Counting(TorchDispatchMode):
    """Counts who would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_mask = func is torch.ops.aten.index.Tensor and any(i is not None and i.dtype is torch.bool for i in args[1])
        self.waited += func in WAITING or by_mask
        return func(*args, **(kwargs or {}))


def test_the_counter_counts() -> None:
    with Counting() as counting:
        float(torch.ones(1).sum())
        torch.ones(3)[torch.tensor([True, False, True])]
    assert counting.waited == 2


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"accumulate": 2, "clip_grad_norm": 0.1, "ema": 0.9, "weight_decay": 0.1, "nesterov": True},
        {"augment": ("crop", "flip", "erase", "brightness", "contrast"), "precision": "bfloat16"},
        {"channels_last": True, "local_schedule": {"kind": "cosine"}},
    ],
    ids=str,
)
def test_no_step_waits(settings: dict[str, Any]) -> None:
    images = torch.randn(40, 2, 8, 8)
    data = (images, (images.mean((1, 2, 3)) > 0).long())
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    weights = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    pruned = [Pruned(weight, pack(torch.rand(weight.shape) < 0.5)) for weight in weights]
    waited: list[int] = []

    def note(epoch: int, step: int, loss: Tensor) -> None:
        waited.append(counting.waited)

    recipe = Recipe(TrainingSettings(batch_size=4, **settings), 3, proximal=0.1)
    with Counting() as counting:
        train_by_recipe(model, data, recipe, pruned=pruned, on_step=note)
    assert len(waited) >= 15
    assert waited[-1] == waited[0]


@pytest.mark.parametrize("optimizer", ["sgd", "RMSprop"])
def test_no_step_of_what_is_pruned_waits_for_a_device(optimizer: str) -> None:
    """Elsewhere than on the CPU, where to wait is an error; a mask of bits is spread there."""
    model = nn.Linear(16, 8, device=ELSEWHERE)
    mask = mask_of(torch.empty(16, dtype=torch.uint8, device=ELSEWHERE), (8, 16)).to(torch.float32)
    pruned = [Pruned(model.weight, mask)]
    steps = Steps(model, Recipe(TrainingSettings(optimizer=optimizer, clip_grad_norm=1.0), 1), pruned, 1)
    for _ in range(2):
        steps.optimizer.zero_grad()
        model(torch.empty(3, 16, device=ELSEWHERE)).sum().backward()
        mask_gradients(pruned)
        steps.take()
    pruned[0].settle()


def test_masks_move_values_elsewhere_without_waiting() -> None:
    flat = torch.empty(21, device=ELSEWHERE)
    mask = torch.empty(21, dtype=torch.bool, device=ELSEWHERE)
    assert bits_of(mask).shape == (3,)
    assert mask_of(bits_of(mask), (3, 7)).shape == (3, 7)
    assert gather_there(flat, mask, 5).shape == (5,)
    scatter_there(torch.empty(5, device=ELSEWHERE), mask, flat)


@pytest.mark.parametrize("device", DEVICES)
def test_batches_of_what_does_not_fit_on_a_device_are_the_same(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, labels = torch.randn(7, 3), torch.arange(7)
    there = torch.device(device)
    fitting = Examples((inputs, labels), there, Labelled())
    play_card(monkeypatch, free=0, total=1 << 30)
    large = Examples((inputs, labels), there, Labelled())
    for batches in (lambda of: of.in_order(3), lambda of: of.shuffled(torch.Generator().manual_seed(1), 3)):
        pairs = list(zip(batches(fitting), batches(large), strict=True))
        assert [batch.size for batch, _ in pairs] == [3, 3, 1]
        for batch, other in pairs:
            for part, its in zip(batch.content, other.content, strict=True):
                assert part.device.type == its.device.type == device
                assert torch.equal(part, its)
