"""What the benchmarks work on: models of the usual sizes, masks and tickets drawn at random."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lotteryfl.common.models import create_model
from lotteryfl.common.models.mlp import mlp
from lotteryfl.common.models.resnet import Bottleneck, ResNet
from lotteryfl.common.packedmasks import PackedMask, pack
from lotteryfl.common.wire.table import TensorTable


def _resnet101() -> nn.Module:
    return ResNet(Bottleneck, (3, 4, 23, 3), channels=3, size=32, classes=1000)


def _transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(1024, nhead=16, dim_feedforward=4096, batch_first=True)
    return nn.TransformerEncoder(layer, 28, enable_nested_tensor=False)


def _many_layers(width: int) -> nn.Module:
    """As many tensors as ResNet-18 has."""
    layers = [layer for _ in range(20) for layer in (nn.Linear(width, width, bias=False), nn.LayerNorm(width))]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def _alike() -> nn.Module:
    layers = [nn.Linear(430, 430) for _ in range(60)]
    for layer in layers:
        nn.init.normal_(layer.weight)  # torch's own initial values are so few that some are equal
    return nn.Sequential(*layers)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "20 k": lambda: create_model("mnist", "cnn"),
    "20 k in 62 tensors": lambda: _many_layers(32),
    "1 M in 62 tensors": lambda: _many_layers(224),
    "1 M in 500 tensors": lambda: nn.ModuleList([nn.Linear(64, 64) for _ in range(250)]),
    "1.9 M": lambda: mlp((1024, 1024), 784, 10),
    "11 M": lambda: create_model("cifar10", "resnet18"),
    "45 M": _resnet101,
    "350 M": _transformer,
    "11 M in 60 layers": _alike,
    "2,000 tensors": lambda: nn.ModuleList([nn.Linear(4, 4) for _ in range(1000)]),
}
"""Parameters → model: the paper's CNN, as many in small layers, an MLP, ResNet-18 and -101, a transformer; many."""


def random_masks(table: TensorTable, density: float, seed: int) -> dict[str, PackedMask]:
    """Return masks that keep each prunable weight with the same chance."""
    generator = torch.Generator().manual_seed(seed)
    return {spec.name: pack(torch.rand(spec.shape, generator=generator) < density) for spec in table if spec.prunable}


def random_tensors(table: TensorTable, seed: int) -> dict[str, Tensor]:
    """Return values for every tensor of the table."""
    random = np.random.default_rng(seed)
    return {
        spec.name: torch.from_numpy(np.asarray(random.standard_normal(spec.shape, dtype=np.float32))).to(spec.dtype)
        for spec in table
    }
