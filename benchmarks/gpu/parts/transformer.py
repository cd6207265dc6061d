"""A transformer of 350 M, trained and pruned: seconds and memory."""

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmarks.gpu.machine import forget_peak, peak_mib, synchronize
from benchmarks.gpu.row import Row, check
from benchmarks.gpu.runs import Setting
from benchmarks.inputs import MODELS
from lotteryfl.common.pruning.prune import get_prune_summary, prune_fixed_amount
from lotteryfl.common.training.loop import train_by_recipe
from lotteryfl.common.training.recipe import Recipe, TrainingSettings

SECONDS = 20.0


class Classifying(nn.Module):
    """Tells sequences apart by the mean of what an encoder makes of them."""

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(width, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (N, 10) of sequences (N, T, width)."""
        logits: Tensor = self.head(self.encoder(inputs).mean(dim=1))
        return logits


def rows(setting: Setting) -> Iterator[Row]:
    """Train it pruned, by bfloat16."""
    device = torch.device(setting.device)
    size, width, length = ("small", 32, 8) if setting.quick else ("350 M", 1024, 128)
    torch.manual_seed(0)
    encoder: nn.Module = (
        nn.TransformerEncoderLayer(width, nhead=2, dim_feedforward=64, batch_first=True)
        if setting.quick
        else MODELS[size]()
    )
    model = Classifying(encoder, width).to(device)
    forget_peak(device)
    start = time.perf_counter()
    prune_fixed_amount(model, 0.5, verbose=False)
    synchronize(device)
    yield Row(f"{size}: pruned to a half", f"{time.perf_counter() - start:.3f} s; {peak_mib(device)} at the peak")
    steps, batch = (2, 2) if setting.quick else (16, 8)
    data = (torch.randn(steps * batch, length, width), torch.randint(10, (steps * batch,)))
    recipe = Recipe(TrainingSettings(batch_size=batch, lr=0.001, precision="bfloat16"), 1)
    forget_peak(device)
    start = time.perf_counter()
    trained = train_by_recipe(model, data, recipe, device=device)
    taken = time.perf_counter() - start
    yield Row(f"{size}: {steps} steps of {batch} × {length}", f"{taken:.2f} s; {peak_mib(device)} at the peak")
    left = get_prune_summary(model).density
    yield check(
        f"{size}: half of it is pruned, and its loss is a number", abs(left - 0.5) < 0.01 and trained.loss < 1e6
    )
