"""VGG with batch norm, for small images."""

from collections.abc import Sequence

from torch import Tensor, nn

VGG_STAGES: dict[str, tuple[int, ...]] = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
"""Convolutions in each of the five stages (Simonyan and Zisserman 2015, table 1: A, B, D, E)."""

_WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Five stages of 3×3 convolutions, each ending in 2×2 max pooling, then one linear layer.

    The three linear layers of the original belong to 224×224 images; on small ones a single layer is usual.
    Pooling rounds up, so that maps of any image end at 1×1 or larger.
    """

    def __init__(self, stages: Sequence[int], channels: int, size: int, classes: int) -> None:  # noqa: ARG002 - fits any size
        super().__init__()
        layers: list[nn.Module] = []
        for convolutions, width in zip(stages, _WIDTHS, strict=True):
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, classes)."""
        logits: Tensor = self.classifier(self.pool(self.features(images)).flatten(1))
        return logits
