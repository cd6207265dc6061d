"""Human Activity Recognition Using Smartphones (Anguita et al. 2013): 561 features of 2.56 s of a phone's motion.

30 subjects, 6 activities, 10,299 windows; subjects are the data's natural clients. The windows of a subject follow each
other in time and overlap by half, so that a random split would test on what was trained on. Here a subject's test data
are the last quarter of its windows of each activity. (The published split is by subject: it has no test data for those
who train.)
"""

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.tasks.builtin import Examples
from lotteryfl.common.tasks.datasets.places import cache_dir, find_folder, unreadable
from lotteryfl.common.tasks.partition import IntArray

_FEATURES, _CLASSES, _SUBJECTS = 561, 6, 30
_TEST_SHARE = 0.25
_PUBLISHED = "'UCI HAR Dataset.zip' (https://archive.ics.uci.edu, Human Activity Recognition Using Smartphones)"


def load(experiment: Experiment) -> tuple[Examples, Examples]:
    """Return training and test windows with their subjects as owners, read once per process.

    Raises:
        TaskError: the files are not found, with what to do about it, or not what they should be.
    """
    folder = find_folder(
        "har",
        experiment.task.data_dir,
        (cache_dir() / "UCI HAR Dataset",),
        f"unpack {_PUBLISHED} there, or set task.data_dir to its folder, the one with train/ and test/",
    )
    return _read_folder(folder)


@cache
def _read_folder(folder: Path) -> tuple[Examples, Examples]:
    parts = [_read_part(folder / part, part) for part in ("train", "test")]
    features, labels, subjects = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    later = _last_of_each(subjects * _CLASSES + labels)

    def take(chosen: npt.NDArray[np.bool_]) -> Examples:
        inputs, classes = torch.from_numpy(features[chosen]), torch.from_numpy(labels[chosen])
        return Examples(inputs, classes, owners=subjects[chosen])

    return take(~later), take(later)


def _read_part(folder: Path, part: str) -> tuple[npt.NDArray[np.float32], IntArray, IntArray]:
    features = _table(folder / f"X_{part}.txt").astype(np.float32)
    if features.shape[1] != _FEATURES or not np.isfinite(features).all():
        raise TaskError(f"{folder / f'X_{part}.txt'}: expected {_FEATURES} finite numbers in every line")
    labels = _numbers(folder / f"y_{part}.txt", _CLASSES, len(features))
    return features, labels - 1, _numbers(folder / f"subject_{part}.txt", _SUBJECTS, len(features))


def _numbers(path: Path, largest: int, lines: int) -> IntArray:
    table = _table(path)
    if table.shape != (lines, 1) or not np.isin(table, np.arange(1, largest + 1)).all():
        raise TaskError(f"{path}: expected {lines} lines with one number from 1 to {largest}")
    return table[:, 0].astype(np.int64)


def _table(path: Path) -> npt.NDArray[np.float64]:
    try:
        with path.open(encoding="ascii") as file:
            table = np.loadtxt(file, ndmin=2, comments=None)
    except OSError as error:
        raise unreadable(path, error, _PUBLISHED) from error
    except ValueError as error:
        raise TaskError(f"{path}: {error}") from error
    if table.size == 0:
        raise TaskError(f"{path}: is empty")
    return table


def _last_of_each(keys: IntArray) -> npt.NDArray[np.bool_]:
    """Mark the last quarter, rounded, of the positions of every key, but never the only one."""
    chosen = np.zeros(len(keys), dtype=bool)
    for key in np.unique(keys):
        positions = np.flatnonzero(keys == key)
        count = min(max(1, round(_TEST_SHARE * len(positions))), len(positions) - 1)
        chosen[positions[len(positions) - count :]] = True
    return chosen
