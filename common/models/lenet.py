"""LeNet-5."""

import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from lotteryfl.common.models.pooling import max_pool


class LeNet5(nn.Module):
    """LeCun et al. 1998, section II.B, with ReLU, max pooling and a linear output.

    The original sees 32×32 pixels; smaller images are padded by two, and where even the second map would be
    too small for its 5×5 kernel, that convolution keeps its size too.
    """

    def __init__(self, channels: int, size: int, classes: int) -> None:
        super().__init__()
        padding1, padding2 = (2 if size < 32 else 0), (2 if size < 28 else 0)
        side = pooled_side(pooled_side(size, padding1), padding2)
        self.conv1 = nn.Conv2d(channels, 6, kernel_size=5, padding=padding1)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5, padding=padding2)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, classes)."""
        maps = max_pool(F.relu(self.conv1(images)))
        maps = max_pool(F.relu(self.conv2(maps)))
        hidden = F.relu(self.fc2(F.relu(self.fc1(maps.flatten(1)))))
        logits: Tensor = self.fc3(hidden)
        return logits


def pooled_side(size: int, padding: int) -> int:
    """Return the side of a size×size map after a padded 5×5 convolution and 2×2 pooling."""
    return (size + 2 * padding - 4) // 2
