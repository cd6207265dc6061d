"""SVHN (Netzer et al. 2011): digits of house numbers, 32×32 pixels in colour, from MATLAB's files.

A file has X, bytes (row, column, channel, example), and y, labels from 1 to 10, of which 10 is the digit 0.
"""

from functools import cache
from pathlib import Path

import numpy as np

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.owncode.usercode import first_line
from lotteryfl.common.tasks.builtin import Examples
from lotteryfl.common.tasks.datasets.colour import coloured
from lotteryfl.common.tasks.datasets.places import cache_dir, find_folder, unreadable

_MEAN, _STD = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)
_CLASSES = 10
_PUBLISHED = "Format 2 of http://ufldl.stanford.edu/housenumbers"


def load(experiment: Experiment) -> tuple[Examples, Examples]:
    """Return the 73,257 training and 26,032 test images, read once per process; the class of a 0 is 0.

    Raises:
        TaskError: the files are not found, with what to do about it, or not what they should be.
    """
    folder = find_folder(
        "svhn",
        experiment.task.data_dir,
        (cache_dir() / "svhn",),
        f"put train_32x32.mat and test_32x32.mat there ({_PUBLISHED}), or set task.data_dir to their folder",
    )
    return _read(folder / "train_32x32.mat"), _read(folder / "test_32x32.mat")


@cache
def _read(path: Path) -> Examples:
    from scipy.io import loadmat  # here, because importing it takes time; it runs nothing that is in a file

    try:
        with path.open("rb") as file:
            content = loadmat(file, variable_names=("X", "y"))
        pixels, labels = np.asarray(content["X"]), np.asarray(content["y"]).reshape(-1)
    except OSError as error:
        raise unreadable(path, error, _PUBLISHED) from error
    except Exception as error:  # of damaged bytes: whatever the reader trips over
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise TaskError(f"{path}: is no MATLAB file with X and y: {reason}") from error
    if pixels.dtype != np.uint8 or pixels.shape != (32, 32, 3, len(labels)) or len(labels) == 0:
        expected = f"uint8 of (32, 32, 3, {len(labels)}), as there are {len(labels)} labels"
        raise TaskError(f"{path}: X is {pixels.dtype} of shape {pixels.shape}, expected {expected}")
    if not np.isin(labels, np.arange(1, _CLASSES + 1)).all():
        raise TaskError(f"{path}: expected labels from 1 to {_CLASSES}, of which {_CLASSES} is a 0")
    return coloured(pixels.transpose(3, 2, 0, 1), labels.astype(np.int64) % _CLASSES, _MEAN, _STD)
