"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 32×32 pixels in colour, from binary versions; Python's are pickled code.

A file is records and nothing else: the label (in CIFAR-100 one of 20 coarse classes, and then one of 100 fine ones,
which counts), then 1,024 red, 1,024 green and 1,024 blue pixels.

Where there are none, the archive is fetched from its authors' address. Both versions hold the same in the same order,
so that indices of the one are those of the other.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.tasks.builtin import Examples
from lotteryfl.common.tasks.datasets.archive import Archive, unpack_into
from lotteryfl.common.tasks.datasets.colour import Channels, coloured
from lotteryfl.common.tasks.datasets.places import cache_dir, unreadable

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class _Version:
    """Which files hold a data set, and what is in them."""

    archive: Archive
    python: tuple[str, ...]
    """Files and folders of the version for Python."""
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
        return f"{self.archive.name} of https://www.cs.toronto.edu/~kriz/cifar.html"

    @property
    def largest(self) -> int:
        """Bytes of its largest file."""
        return self.most_in_a_file * (self.labels + _PIXELS)


_VERSIONS = {
    "cifar10": _Version(
        archive=Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            "cifar-10-batches-bin",
        ),
        python=("cifar-10-python.tar.gz", "cifar-10-batches-py", "data_batch_1"),
        train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        test=("test_batch.bin",),
        most_in_a_file=10_000,
        labels=1,
        classes=10,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    ),
    "cifar100": _Version(
        archive=Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            168_513_733,
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            "cifar-100-binary",
        ),
        python=("cifar-100-python.tar.gz", "cifar-100-python", "train"),
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
    return _read_folder(version, _find(name, version, experiment.task.data_dir))


def _find(name: str, version: _Version, data_dir: str) -> Path:
    """Return the folder with the files, which have been fetched where there were none."""
    parent = Path(data_dir).expanduser() if data_dir else cache_dir()
    unpacked = parent / version.archive.folder
    if unpacked.is_dir():
        return unpacked
    if data_dir and (not parent.is_dir() or any((parent / file).exists() for file in (*version.train, *version.test))):
        return parent
    remedy = (
        f"put {version.published} there, or unpack it (the one for Python is pickled and not read), or set "
        "task.data_dir to its folder"
    )
    for pickled in version.python:
        if (parent / pickled).exists():
            raise TaskError(f"task {name}: {parent / pickled} is of the version for Python: {remedy}")
    try:
        return unpack_into(parent, version.archive, (*version.train, *version.test), version.largest)
    except TaskError as error:
        raise TaskError(f"task {name}: no data in {unpacked}; {error}; {remedy}") from error


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
            data = np.frombuffer(file.read(version.largest + 1), dtype=np.uint8)
    except OSError as error:
        raise unreadable(path, error, version.published) from error
    if data.size % record or not 0 < data.size <= most * record:
        raise TaskError(f"{path}: expected 1 to {most} records of {record} bytes and nothing else")
    records = data.reshape(-1, record)[:, version.labels - 1 :]
    if (largest := records[:, 0].max()) >= version.classes:
        raise TaskError(f"{path}: holds the label {largest}, expected 0 to {version.classes - 1}")
    return records
