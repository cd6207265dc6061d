"""Data sets whose images are files: decoded once in a process, into bytes in memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lotteryfl.common.errors import TaskError
from lotteryfl.common.tasks.builtin import Examples
from lotteryfl.common.tasks.datasets.colour import Channels, coloured
from lotteryfl.common.tasks.datasets.places import unreadable
from lotteryfl.common.tasks.pixels import FORMATS, read_pixels

Labelled = list[tuple[Path, int]]
"""Images with their classes."""


def in_class_folders(folder: Path, classes: Sequence[str], inner: str, published: str) -> Labelled:
    """Return the images of a folder that has a folder for each class, in the order of classes and names.

    Args:
        folder: of the class folders.
        classes: their names; one's place is its class.
        inner: where in a class folder the images are; empty: at its top.
        published: what the folder comes with, for the error where it is not there.

    Raises:
        TaskError: a class folder is not there, or without images.
    """
    found: Labelled = []
    for label, name in enumerate(classes):
        place = folder / name / inner
        try:
            images = sorted(path for path in place.iterdir() if path.suffix.lower() in FORMATS)
        except OSError as error:
            raise unreadable(place, error, published) from error
        if not images:
            raise TaskError(f"{place}: holds no images ({', '.join(FORMATS)})")
        found += [(path, label) for path in images]
    return found


def decoded(images: Labelled, size: int, mean: Channels, std: Channels) -> Examples:
    """Read images in colour, scaled to size × size.

    Raises:
        TaskError: Pillow is not installed, or an image cannot be read.
    """
    pixels = np.empty((len(images), 3, size, size), dtype=np.uint8)  # not a list of arrays: that takes twice as much
    for index, (path, _) in enumerate(images):
        pixels[index] = read_pixels(path, 3, size)
    return coloured(pixels, np.array([label for _, label in images]), mean, std)
