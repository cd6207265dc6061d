"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 32×32 pixels in colour, from binary versions; Python's are pickled code.

A file is records and nothing else: the label (in CIFAR-100 one of 20 coarse classes, and then one of 100 fine ones,
which counts), then 1,024 red, 1,024 green and 1,024 blue pixels.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.tasks.builtin import Examples
from lotteryfl.common.tasks.datasets.colour import Channels, coloured
from lotteryfl.common.tasks.datasets.places import cache_dir, find_folder, unreadable

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class _Version:
    """Which files hold a data set, and what is in them."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    most_in_a_file: int
    labels: int
    """Bytes before an image; the last is its class."""
    classes: int
    mean: Channels
    """Of the training pixels."""
    std: Channels
    """The same."""

    @property
    def published(self) -> str:
        """Which archive it comes with, and where that is."""
        return f"{self.archive} of https://www.cs.toronto.edu/~kriz/cifar.html"


_VERSIONS = {
    "cifar10": _Version(
        folder="cifar-10-batches-bin",
        archive="cifar-10-binary.tar.gz",
        train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        test=("test_batch.bin",),
        most_in_a_file=10_000,
        labels=1,
        classes=10,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    ),
    "cifar100": _Version(
        folder="cifar-100-binary",
        archive="cifar-100-binary.tar.gz",
        train=("train.bin",),
        test=("test.bin",),
        most_in_a_file=50_000,
        labels=2,
        classes=100,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    ),
}


def load(experiment: Experiment) -> tuple[Examples, Examples]:
    """Return the 50,000 training and 10,000 test images of the version that the task names, read once per process.

    Raises:
        TaskError: the files are not found, with what to do about it, or not what they should be.
    """
    name = experiment.task.name
    version = _VERSIONS[name]
    folder = find_folder(
        name,
        experiment.task.data_dir,
        (cache_dir() / version.folder,),
        f"unpack the binary version there ({version.published}; the one for Python is pickled and not read), or set "
        "task.data_dir to its folder",
    )
    return _read_folder(version, folder)


@cache
def _read_folder(version: _Version, folder: Path) -> tuple[Examples, Examples]:
    return _read(version, folder, version.train), _read(version, folder, version.test)


def _read(version: _Version, folder: Path, names: tuple[str, ...]) -> Examples:
    records = np.concatenate([_records(version, folder / name) for name in names])
    return coloured(records[:, 1:].reshape(-1, *_SHAPE), records[:, 0], version.mean, version.std)


def _records(version: _Version, path: Path) -> npt.NDArray[np.uint8]:
    """Return each record's class and its pixels."""
    most, record = version.most_in_a_file, version.labels + _PIXELS
    try:
        with path.open("rb") as file:
            data = np.frombuffer(file.read(most * record + 1), dtype=np.uint8)
    except OSError as error:
        raise unreadable(path, error, version.published) from error
    if data.size % record or not 0 < data.size <= most * record:
        raise TaskError(f"{path}: expected 1 to {most} records of {record} bytes and nothing else")
    records = data.reshape(-1, record)[:, version.labels - 1 :]
    if (largest := records[:, 0].max()) >= version.classes:
        raise TaskError(f"{path}: holds the label {largest}, expected 0 to {version.classes - 1}")
    return records
