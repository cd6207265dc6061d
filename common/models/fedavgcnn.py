"""The convolutional network of federated averaging, as PFLlib has it."""

import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from lotteryfl.common.models.lenet import pooled_side
from lotteryfl.common.models.pooling import max_pool


class FedAvgCNN(nn.Module):
    """Two 5×5 convolutions (32, 64 channels), each with 2×2 max pooling, then 512 hidden units.

    After McMahan et al. 2017, section 3, but without padding: layer sizes as in `FedAvgCNN` of
    github.com/TsingZ0/PFLlib. 28×28 images in one channel give 582,026 parameters; smaller images are padded so that
    the maps do not vanish.
    """

    def __init__(self, channels: int, size: int, classes: int) -> None:
        super().__init__()
        padding = 2 if size < 28 else 0
        side = pooled_side(pooled_side(size, padding), padding)
        self.conv1 = nn.Conv2d(channels, 32, kernel_size=5, padding=padding)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=5, padding=padding)
        self.fc1 = nn.Linear(64 * side * side, 512)
        self.fc2 = nn.Linear(512, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, classes)."""
        maps = max_pool(F.relu(self.conv1(images)))
        maps = max_pool(F.relu(self.conv2(maps)))
        logits: Tensor = self.fc2(F.relu(self.fc1(maps.flatten(1))))
        return logits
