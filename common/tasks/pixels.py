"""Images as bytes, by Pillow."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lotteryfl.common.errors import TaskError

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}
"""How an image's name ends → the only format as which it is read."""

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def read_pixels(path: Path, channels: int, size: int) -> npt.NDArray[np.uint8]:
    """Read an image, whatever its size, as (channels, size, size).

    Raises:
        TaskError: Pillow is not installed, or the image cannot be read.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise TaskError("images need Pillow: pip install 'lotteryfl[torchvision]'") from error
    if (suffix := path.suffix.lower()) not in FORMATS:
        raise TaskError(f"{path}: expected an image: {', '.join(FORMATS)}")
    try:
        with Image.open(path, formats=(FORMATS[suffix],)) as image:
            return pixels_of(image, channels, size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise TaskError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def pixels_of(image: Any, channels: int, size: int) -> npt.NDArray[np.uint8]:
    """Return a Pillow image, scaled, as (channels, size, size).

    Raises:
        TaskError: there are no images of so many channels.
    """
    if channels not in _MODES:
        raise TaskError(f"task.options.channels = {channels}: expected 1, 3 or 4")
    converted = image.convert(_MODES[channels])
    scaled = converted if converted.size == (size, size) else converted.resize((size, size))
    return np.asarray(scaled, dtype=np.uint8).reshape(size, size, channels).transpose(2, 0, 1)
