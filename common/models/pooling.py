"""2×2 max pooling."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor


def max_pool(maps: Tensor) -> Tensor:
    """Return the maxima of 2×2 squares, (batch, channels, height // 2, width // 2) of (batch, channels, height, width).

    What `max_pool2d` returns. Where no gradient is wanted its kernel for the CPU still notes where each maximum
    was, and that takes most of the time of testing a small network: maxima of rows, then of columns, take a
    twentieth of it.
    """
    if torch.is_grad_enabled() or maps.device.type != "cpu":
        return F.max_pool2d(maps, 2)
    height, width = (side // 2 * 2 for side in maps.shape[-2:])
    rows = torch.maximum(maps[..., 0:height:2, :width], maps[..., 1:height:2, :width])
    return torch.maximum(rows[..., 0::2], rows[..., 1::2])
