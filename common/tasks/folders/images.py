"""Images by class folder, read by Pillow."""

from pathlib import Path

import numpy as np

from lotteryfl.common.errors import TaskError
from lotteryfl.common.tasks.folders.options import Options
from lotteryfl.common.tasks.folders.tables import Pair
from lotteryfl.common.tasks.pixels import FORMATS, read_pixels


def find_images(folder: Path, options: Options) -> list[tuple[Path, int]]:
    """Return the images of a folder's class folders with their classes, in the order of classes and names.

    A class folder is called by the class's name in `task.options.classes`, or, where that is a number, by its own.

    Raises:
        TaskError: a folder with images in it is called otherwise.
    """
    names = {name: label for label, name in enumerate(options.names)} or {
        str(label): label for label in range(options.classes)
    }
    found = []
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        images = sorted(path for path in entry.iterdir() if path.suffix.lower() in FORMATS) if entry.is_dir() else []
        if images and entry.name not in names:
            raise TaskError(f"{entry}: holds images of no class of task.options.classes: {', '.join(names)}")
        found += [(path, names[entry.name]) for path in images]
    return sorted(found, key=lambda image: (image[1], image[0].name))


def read_images(images: list[tuple[Path, int]], options: Options) -> Pair:
    """Read images, scaled to the size of `task.options`, pixels to 0 … 1.

    Raises:
        TaskError: Pillow is not installed, or an image cannot be read.
    """
    channels, size, _ = options.shape
    pixels = np.stack([read_pixels(path, channels, size) for path, _ in images])
    return pixels.astype(np.float32) / np.float32(255), np.array([label for _, label in images], dtype=np.int64)
