"""Images a second of a pruned ResNet-18 on 32×32, beside a bare loop of the same model, dense, and the same keys."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from benchmarks.gpu.machine import forget_peak, peak_mib, synchronize
from benchmarks.gpu.row import Row
from benchmarks.gpu.runs import Setting
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.models import create_model
from lotteryfl.common.pruning.parameters import copy_model
from lotteryfl.common.pruning.prune import prune_fixed_amount
from lotteryfl.common.training.loop import train_by_recipe
from lotteryfl.common.training.precision import autocast, check_compiler, compiled, weights_in_format
from lotteryfl.common.training.recipe import Recipe, TrainingSettings

SECONDS = 75.0

GOAL = 0.9
"""Of the bare loop's images a second."""

VARIANTS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16, channels_last": {"precision": "bfloat16", "channels_last": True},
    "bfloat16, compiled": {"precision": "bfloat16", "compile": True},
}
BATCHES = (16, 128)
STEPS = 40
"""Measured, after as many that are not."""

Rate = Callable[[], float]


def rows(setting: Setting) -> Iterator[Row]:
    """Measure every variant with every size of a batch, twice in turn with the bare loop."""
    device = torch.device(setting.device)
    steps, batches = (2, (4,)) if setting.quick else (STEPS, BATCHES)
    torch.manual_seed(0)
    dense = create_model("cifar10", "cnn" if setting.quick else "resnet18")
    for variant, keys in VARIANTS.items():
        for size in batches:
            what = f"{variant}, batches of {size}"
            settings = TrainingSettings(batch_size=size, lr=0.001, **keys)
            if setting.quick and settings.compile:
                yield Row(what, "not run: in small nothing is compiled")
                continue
            try:
                check_compiler(settings, device)
                yield _row(what, dense, settings, steps, device)
            except LotteryFLError as error:
                yield Row(what, f"not run: {error}")


def _row(what: str, dense: nn.Module, settings: TrainingSettings, steps: int, device: torch.device) -> Row:
    data = _data(settings.batch_size, 2 * steps, device)
    forget_peak(device)
    bare, ours = [], []
    for _ in range(2):
        bare.append(_bare(copy_model(dense, device), data, settings, steps, device))
        ours.append(_ours(copy_model(dense, device), data, settings, steps, device))
    share = max(ours) / max(bare)
    found = (
        f"{max(ours):,.0f} images/s, {share:.2f} of the bare loop's {max(bare):,.0f}; {peak_mib(device)} at the peak"
    )
    return Row(what, found, share >= GOAL, f"≥ {GOAL}")


def _data(size: int, steps: int, device: torch.device) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size * steps, 3, 32, 32, generator=generator)
    return images.to(device), torch.randint(10, (size * steps,), generator=generator).to(device)


def _ours(
    model: nn.Module, data: tuple[Tensor, Tensor], settings: TrainingSettings, steps: int, device: torch.device
) -> float:
    """Return the images a second of a pruned model's training, once half of its steps are done."""
    prune_fixed_amount(model, 0.8, verbose=False)
    began = 0.0

    def note(_epoch: int, step: int, _loss: Tensor) -> None:
        nonlocal began
        if step == steps:
            synchronize(device)
            began = time.perf_counter()

    train_by_recipe(model, data, Recipe(settings, 1), device=device, on_step=note)
    synchronize(device)
    return settings.batch_size * steps / (time.perf_counter() - began)


def _bare(
    model: nn.Module, data: tuple[Tensor, Tensor], settings: TrainingSettings, steps: int, device: torch.device
) -> float:
    """Return those of a loop that does what anybody's does, and nothing else."""
    images, labels = data
    optimizer = torch.optim.SGD(model.parameters(), settings.lr, momentum=settings.momentum)
    cast = autocast(settings, device)
    order = torch.split(torch.randperm(len(images)).to(device), settings.batch_size)
    model.train()
    began = 0.0
    with weights_in_format(model, settings):
        forward = compiled(model, settings)
        for step, chosen in enumerate(order):
            if step == steps:
                synchronize(device)
                began = time.perf_counter()
            optimizer.zero_grad()
            with cast:
                loss = F.cross_entropy(forward(images[chosen]), labels[chosen])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        synchronize(device)
    return settings.batch_size * steps / (time.perf_counter() - began)
