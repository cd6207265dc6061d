"""Residual networks with the stem for small images: one 3×3 convolution, no pooling."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]
"""Makes a layer that normalises so many channels."""


class _Residual(nn.Module):
    """relu(branch(x) + shortcut(x)); the shortcut projects where the shape changes (He et al. 2016, B)."""

    def __init__(self, branch: nn.Sequential, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the branch's output shape."""
        return F.relu(self.branch(maps) + self.shortcut(maps))


class BasicBlock(_Residual):
    """Two 3×3 convolutions."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm) -> None:
        branch = nn.Sequential(
            nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False),
            norm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            norm(width),
        )
        super().__init__(branch, inputs, width, stride, norm)


class Bottleneck(_Residual):
    """1×1, 3×3 (with the stride) and 1×1 convolutions; the last gives four times the width."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm) -> None:
        outputs = self.expansion * width
        branch = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False),
            norm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
            norm(width),
            nn.ReLU(),
            nn.Conv2d(width, outputs, 1, bias=False),
            norm(outputs),
        )
        super().__init__(branch, inputs, outputs, stride, norm)


class ResNet(nn.Module):
    """Four stages of residual blocks, of widths 64, 128, 256, 512; all but the first halve the maps."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: Sequence[int],
        channels: int,
        size: int,  # noqa: ARG002 - the average pool takes maps of any size
        classes: int,
        *,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 64, 3, padding=1, bias=False), norm(64), nn.ReLU())
        stages, inputs = [], 64
        for stage, count in enumerate(blocks):
            width = 64 << stage
            layers = []
            for number in range(count):
                layers.append(block(inputs, width, 2 if number == 0 and stage > 0 else 1, norm))
                inputs = width * block.expansion
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, classes)."""
        logits: Tensor = self.classifier(self.pool(self.stages(self.stem(images))).flatten(1))
        return logits
