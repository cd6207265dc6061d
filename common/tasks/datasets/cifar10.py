"""CIFAR-10 (Krizhevsky 2009): 32×32 pixels in colour, from its binary version; the one for Python is pickled code.

A file is records of 3,073 bytes and nothing else: the label, then 1,024 red, 1,024 green and 1,024 blue pixels.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.tasks.builtin import Examples
from lotteryfl.common.tasks.datasets.places import cache_dir, find_folder

_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST = ("test_batch.bin",)
_SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32
_MOST_IN_A_FILE = 10_000
_CLASSES = 10
_MEAN, _STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""Mean and standard deviation of the training pixels / 255: red, green, blue."""


def load(experiment: Experiment) -> tuple[Examples, Examples]:
    """Return the 50,000 training and 10,000 test images, read once per process.

    Raises:
        TaskError: the files are not found, with what to do about it, or not what they should be.
    """
    folder = find_folder(
        "cifar10",
        experiment.task.data_dir,
        (cache_dir() / "cifar-10-batches-bin",),
        "unpack the binary version there (cifar-10-binary.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html; the "
        "one for Python is pickled and not read), or set task.data_dir to its folder",
    )
    return _read_folder(folder)


@cache
def _read_folder(folder: Path) -> tuple[Examples, Examples]:
    return _read(folder, _TRAIN), _read(folder, _TEST)


def _read(folder: Path, names: tuple[str, ...]) -> Examples:
    records = np.concatenate([_records(folder / name) for name in names])
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (_MEAN, _STD))
    images = torch.from_numpy(np.ascontiguousarray(records[:, 1:])).view(-1, *_SHAPE)
    return Examples(images, torch.from_numpy(records[:, 0].astype(np.int64)), mean, std)


def _records(path: Path) -> np.typing.NDArray[np.uint8]:
    try:
        with path.open("rb") as file:
            data = np.frombuffer(file.read(_MOST_IN_A_FILE * _RECORD + 1), dtype=np.uint8)
    except OSError as error:
        raise TaskError(f"{path}: {error.strerror or error}") from error
    if data.size % _RECORD or not 0 < data.size <= _MOST_IN_A_FILE * _RECORD:
        raise TaskError(f"{path}: expected 1 to {_MOST_IN_A_FILE} records of {_RECORD} bytes and nothing else")
    records = data.reshape(-1, _RECORD)
    if (largest := records[:, 0].max()) >= _CLASSES:
        raise TaskError(f"{path}: holds the label {largest}, expected 0 to {_CLASSES - 1}")
    return records
