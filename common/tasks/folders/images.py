"""Images by class folder, read by Pillow."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lotteryfl.common.errors import TaskError
from lotteryfl.common.tasks.folders.options import Options
from lotteryfl.common.tasks.folders.tables import Pair

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}


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
        images = sorted(path for path in entry.iterdir() if path.suffix.lower() in _FORMATS) if entry.is_dir() else []
        if images and entry.name not in names:
            raise TaskError(f"{entry}: holds images of no class of task.options.classes: {', '.join(names)}")
        found += [(path, names[entry.name]) for path in images]
    return sorted(found, key=lambda image: (image[1], image[0].name))


def read_images(images: list[tuple[Path, int]], options: Options) -> Pair:
    """Read images, scaled to the size of `task.options`, pixels to 0 … 1.

    Raises:
        TaskError: Pillow is not installed, or an image cannot be read.
    """
    pixels = np.stack([_pixels(path, options) for path, _ in images])
    return pixels.astype(np.float32) / np.float32(255), np.array([label for _, label in images], dtype=np.int64)


def pixels_of(image: Any, options: Options) -> npt.NDArray[np.uint8]:
    """Return a Pillow image as (channels, size, size)."""
    channels, size, _ = options.shape
    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    if channels not in modes:
        raise TaskError(f"task.options.channels = {channels}: expected 1, 3 or 4")
    converted = image.convert(modes[channels])
    scaled = converted if converted.size == (size, size) else converted.resize((size, size))
    return np.asarray(scaled, dtype=np.uint8).reshape(size, size, channels).transpose(2, 0, 1)


def _pixels(path: Path, options: Options) -> npt.NDArray[np.uint8]:
    try:
        from PIL import Image
    except ImportError as error:
        raise TaskError("images need Pillow: pip install 'lotteryfl[torchvision]'") from error
    try:
        with Image.open(path, formats=(_FORMATS[path.suffix.lower()],)) as image:
            return pixels_of(image, options)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise TaskError(f"{path}: {error}") from error
