"""Segment images by a small U-Net: lotteryfl run examples/segmentation.toml"""

import numpy as np
import torch
from torch import Tensor, nn

from lotteryfl import Experiment, objectives

BORDER = 255  # which class a pixel on a border has nobody can say: it does not count
objective = objectives.Dense(classes=3, ignore_index=BORDER)  # background, plain discs, striped ones


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.ReLU())


class model(nn.Module):  # noqa: N801 - the contract's name
    def __init__(self) -> None:
        super().__init__()
        self.fine = block(1, 8)
        self.coarse = nn.Sequential(nn.MaxPool2d(4), block(8, 16), block(16, 16), nn.Upsample(scale_factor=4))
        self.both = nn.Sequential(block(24, 8), nn.Conv2d(8, 3, 1))

    def forward(self, images: Tensor) -> Tensor:
        fine = self.fine(images)
        logits: Tensor = self.both(torch.cat([fine, self.coarse(fine)], dim=1))
        return logits


def client(k: int, experiment: Experiment) -> list[tuple[Tensor, ...]]:
    """Return site k's images, in its own light, with a plain or a striped disc each, and the class of every pixel."""
    random = np.random.default_rng([experiment.seed, k])
    striped, x, y, radius = (random.uniform(*of, (160, 1, 1)) for of in ((-1, 1), (8, 24), (8, 24), (4, 7)))
    edge = np.hypot(np.arange(32) - x, np.arange(32)[:, None] - y) - radius
    shown = (edge < 0) & ((striped < 0) | (np.arange(32) % 4 < 2))
    images = random.uniform(0.7, 1.3) * shown + random.normal(0, 0.2, edge.shape)
    labels = np.where(abs(edge) < 0.5, BORDER, (edge < 0) * (1 + (striped > 0)))
    parts = (torch.tensor(images[:, None], dtype=torch.float32), torch.tensor(labels))
    return list(zip(*(torch.split(part, [80, 20, 60]) for part in parts), strict=True))
