"""IDX files, the format of MNIST and its relatives: arrays of bytes, plain or gzipped, read strictly.

Layout: two zero bytes, a type (8: unsigned byte), the number of dimensions, each dimension as a big-endian
uint32, then the data in C order and nothing after it.
"""

import gzip
import math
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from lotteryfl.common.errors import TaskError

MAX_BYTES = 1 << 30
"""Largest array that is read; EMNIST's biggest has 0.55 GB."""

_UNSIGNED_BYTE = 8
_GZIP_RATIO = 1032
"""Deflate cannot pack tighter, so a header that claims more is wrong before anything is allocated."""


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes.

    Args:
        path: a plain file, or one that ends in .gz.
        dimensions: what the array must have: 3 for images, 1 for labels.

    Returns:
        The array, with as many dimensions.

    Raises:
        TaskError: the file cannot be read, is not an IDX file of this kind, or its length is not what its
            header says.
    """
    try:
        stored = path.stat().st_size
        if path.suffix != ".gz":
            with path.open("rb") as file:
                return _read(file, path, dimensions, stored)
        with gzip.open(path) as file:
            return _read(file, path, dimensions, stored * _GZIP_RATIO)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TaskError(f"{path}: damaged gzip file: {error}") from error
    except OSError as error:
        raise TaskError(f"{path}: {error.strerror or error}") from error


def _read(file: IO[bytes] | gzip.GzipFile, path: Path, dimensions: int, most: int) -> npt.NDArray[np.uint8]:
    header = file.read(4 + 4 * dimensions)
    magic = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if header[:4] != magic:
        raise TaskError(f"{path}: starts with {header[:4].hex(' ')}, expected {magic.hex(' ')}")
    if len(header) < 4 + 4 * dimensions:
        raise TaskError(f"{path}: ends within its header")
    shape = np.frombuffer(header, dtype=">u4", offset=4).tolist()
    size = math.prod(shape)
    if size > min(MAX_BYTES, most):
        raise TaskError(f"{path}: its header claims {size} bytes of data, expected {min(MAX_BYTES, most)} at most")
    if math.prod(max(length, 1) for length in shape) > MAX_BYTES:  # of no bytes, and yet too large for numpy
        raise TaskError(f"{path}: its header claims an array of shape {shape}")
    data = file.read(size + 1)
    if len(data) != size:
        held = f"more than {size}" if len(data) > size else str(len(data))
        raise TaskError(f"{path}: holds {held} bytes of data, expected {size}")
    return np.frombuffer(bytearray(data), dtype=np.uint8).reshape(shape)
