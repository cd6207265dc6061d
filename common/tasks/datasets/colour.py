"""Images in colour as examples."""

import numpy as np
import numpy.typing as npt
import torch

from lotteryfl.common.tasks.builtin import Examples

Channels = tuple[float, float, float]
"""Of red, green and blue, pixels being 0 … 1."""


def coloured(pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer], mean: Channels, std: Channels) -> Examples:
    """Return images (examples, 3, height, width) with what their channels are normalised by."""
    means, stds = (torch.tensor(values).view(3, 1, 1) * 255 for values in (mean, std))
    images = torch.from_numpy(np.ascontiguousarray(pixels))
    return Examples(images, torch.from_numpy(labels.astype(np.int64)), means, stds)
