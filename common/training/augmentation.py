"""Training batches made different from each other: images by torch alone, anything by the task's own function."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.training.examples import Batch
from lotteryfl.common.transfer import sent

OwnAugment = Callable[[Any, torch.Generator], Any]
"""(batch, generator on the batch's device) → batch, a task's `augment`."""


class Augmentation:
    """What is done to the batches of one training, one after the other.

    All that is drawn comes from the training's seed and from nothing else, for every example of its own; for images on
    the CPU, whatever the device, and the images themselves are worked on in bulk where they are.
    """

    def __init__(self, names: Sequence[str], own: OwnAugment | None, seed: int, device: torch.device) -> None:
        """Begin.

        Args:
            names: of `training.augment`, in order.
            own: the task's, which comes after them.
            seed: of the training.
            device: where the batches are.
        """
        self._names = names
        self._own = own
        self._random = torch.Generator().manual_seed(derive_seed(seed, "augment"))
        self._own_random = torch.Generator(device).manual_seed(derive_seed(seed, "own augment"))

    def of(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield batches as they are trained on.

        Raises:
            ValueError: `training.augment` names something, and a batch does not begin with images.
        """
        if not (self._names or self._own):
            return batches
        return (Batch(self._augmented(content), size) for content, size in batches)

    def _augmented(self, batch: Any) -> Any:
        if self._names:
            images, *rest = batch
            _require_images(images)
            for name in self._names:
                images = AUGMENTATIONS[name](images, self._random)
            batch = (images, *rest)
        return batch if self._own is None else self._own(batch, self._own_random)


def _require_images(images: Any) -> None:
    if not isinstance(images, Tensor) or images.dim() != 4 or not images.is_floating_point():
        form = f"{images.dtype} of shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(
            f"training.augment: a batch's inputs are {form}: "
            "expected floating-point images of shape (examples, channels, height, width)"
        )


def _crop(images: Tensor, random: torch.Generator) -> Tensor:
    """Move every image by up to an eighth of its height and width, with zeros where nothing was."""
    examples, _, height, width = images.shape
    down, right = max(1, height // 8), max(1, width // 8)
    padded = F.pad(images, (right, right, down, down))
    rows = _integers(2 * down + 1, examples, random, images) + torch.arange(height, device=images.device)
    columns = _integers(2 * right + 1, examples, random, images) + torch.arange(width, device=images.device)
    example = torch.arange(examples, device=images.device)[:, None, None]
    return padded.movedim(1, 3)[example, rows[:, :, None], columns[:, None, :]].movedim(3, 1).contiguous()


def _flip(images: Tensor, random: torch.Generator) -> Tensor:
    """Mirror every other image, left to right."""
    return torch.where(_uniform(images, random) < 0.5, images.flip(3), images)


def _zoom(images: Tensor, random: torch.Generator) -> Tensor:
    """Let a part of an image fill it: 8 to 100 % of its area, 3/4 to 4/3 as wide as high, cut where that is beyond it
    ("random resized crop", after Szegedy et al. 2015, "Going Deeper with Convolutions")."""
    area, shape, down, right = (_uniform(images, random).flatten() for _ in range(4))
    area, shape = 0.08 + 0.92 * area, (math.log(4 / 3) * (2 * shape - 1)).exp()
    width, height = (area * shape).sqrt().clamp(max=1), (area / shape).sqrt().clamp(max=1)
    none = torch.zeros_like(width)
    across = torch.stack([width, none, (1 - width) * (2 * right - 1)], dim=1)
    along = torch.stack([none, height, (1 - height) * (2 * down - 1)], dim=1)
    places = F.affine_grid(torch.stack([across, along], dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, places, padding_mode="border", align_corners=False)


def _erase(images: Tensor, random: torch.Generator) -> Tensor:
    """Set a quarter of every image's height and width to 0, somewhere within ("Cutout", DeVries and Taylor 2017)."""
    examples, _, height, width = images.shape
    rows = _within(height, examples, random, images)[:, None, :, None]
    columns = _within(width, examples, random, images)[:, None, None, :]
    return images.masked_fill(rows & columns, 0)


def _brightness(images: Tensor, random: torch.Generator) -> Tensor:
    """Add up to a fifth of its standard deviation to an image, or take it away."""
    return images + _strength(images, random) * images.std((1, 2, 3), keepdim=True, correction=0)


def _contrast(images: Tensor, random: torch.Generator) -> Tensor:
    """Stretch an image about its mean by up to a fifth, or shrink it."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (1 + _strength(images, random))


def _uniform(images: Tensor, random: torch.Generator) -> Tensor:
    """Return a number in [0, 1) for every image, of shape (examples, 1, 1, 1)."""
    return sent(torch.rand((len(images), 1, 1, 1), generator=random).to(images.dtype), images.device)


def _strength(images: Tensor, random: torch.Generator) -> Tensor:
    return (2 * _uniform(images, random) - 1) / 5


def _integers(below: int, examples: int, random: torch.Generator, images: Tensor) -> Tensor:
    """Return an integer from 0 for every image, of shape (examples, 1)."""
    return sent(torch.randint(below, (examples, 1), generator=random), images.device)


def _within(size: int, examples: int, random: torch.Generator, images: Tensor) -> Tensor:
    """Return where a quarter of a side is, of shape (examples, size)."""
    length = max(1, size // 4)
    first = _integers(size - length + 1, examples, random, images)
    place = torch.arange(size, device=images.device)
    return (place >= first) & (place < first + length)


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "crop": _crop,
    "flip": _flip,
    "zoom": _zoom,
    "erase": _erase,
    "brightness": _brightness,
    "contrast": _contrast,
}
"""Name → (images, generator) → images."""
