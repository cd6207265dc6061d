"""Images turned about their centre."""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor


def rotate(images: Tensor, degrees: float) -> Tensor:
    """Turn square images counter-clockwise; corners that come in from outside are 0.

    Multiples of 90° move pixels and change none; other angles interpolate bilinearly.

    Args:
        images: floating point (examples, channels, size, size).
        degrees: any angle.

    Returns:
        New images of the same shape and dtype.

    Raises:
        ValueError: the images are not square.
    """
    if images.dim() != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images of shape {tuple(images.shape)}: expected (examples, channels, size, size)")
    quarters, rest = divmod(degrees, 90)
    if rest == 0:
        return torch.rot90(images, int(quarters) % 4, (2, 3)).clone(memory_format=torch.contiguous_format)
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    # Where in the old image each pixel of the new one was: the inverse turn, in coordinates with y downwards.
    inverse = torch.tensor([[[cosine, -sine, 0.0], [sine, cosine, 0.0]]], dtype=images.dtype, device=images.device)
    grid = F.affine_grid(inverse, [1, *images.shape[1:]], align_corners=False)
    return F.grid_sample(images, grid.expand(len(images), -1, -1, -1), align_corners=False)
