"""The two convolutional networks of LotteryFL (Li et al. 2020)."""

import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from lotteryfl.common.models.lenet import LeNet5, pooled_side
from lotteryfl.common.models.pooling import max_pool


def cnn(channels: int, size: int, classes: int, *, dropout: bool = True) -> nn.Module:
    """Build the paper's network for MNIST (one channel) or for CIFAR-10 (three).

    Layer sizes as in the authors' published code (`CNNMnist`, `CNNCifar`); the latter is LeNet-5 on colours, which
    has no dropout.
    """
    return MNISTNet(channels, size, classes, dropout=dropout) if channels == 1 else LeNet5(channels, size, classes)


class MNISTNet(nn.Module):
    """Two 5×5 convolutions (10, 20 channels), each with 2×2 max pooling, then 50 hidden units, by default with dropout.

    28×28 images give 21,840 parameters; smaller images are padded so that the maps do not vanish.
    """

    def __init__(self, channels: int, size: int, classes: int, *, dropout: bool = True) -> None:
        super().__init__()
        padding = 2 if size < 28 else 0
        side = pooled_side(pooled_side(size, padding), padding)
        self.conv1 = nn.Conv2d(channels, 10, kernel_size=5, padding=padding)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5, padding=padding)
        self.drop_maps = nn.Dropout2d() if dropout else nn.Identity()
        self.fc1 = nn.Linear(20 * side * side, 50)
        self.drop = nn.Dropout() if dropout else nn.Identity()
        self.fc2 = nn.Linear(50, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, classes)."""
        maps = F.relu(max_pool(self.conv1(images)))
        maps = F.relu(max_pool(self.drop_maps(self.conv2(maps))))
        hidden = self.drop(F.relu(self.fc1(maps.flatten(1))))
        logits: Tensor = self.fc2(hidden)
        return logits
