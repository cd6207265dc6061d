"""FEMNIST of LEAF (Caldas et al. 2018): EMNIST's characters by who wrote them; writers are the natural clients.

Read are the files all_data_0.json, all_data_1.json, … that LEAF's preprocessing writes, 100 writers in each: an
object with "users", a list of names, and "user_data", for each user "x", a list of 784 numbers for each image (0
black … 1 white paper), and "y", its classes: 0–9 digits, 10–35 capitals, 36–61 small letters.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.randomness import generator
from lotteryfl.common.tasks.builtin import Examples
from lotteryfl.common.tasks.datasets.places import cache_dir, find_folder
from lotteryfl.common.tasks.partition import IntArray, stratified_split

_PIXELS, _SIDE, _CLASSES = 784, 28, 62
_TEST_SHARE = 0.2
_PUBLISHED = "LEAF (https://github.com/TalwalkarLab/leaf) writes to data/femnist/data/all_data"

Written = tuple[npt.NDArray[np.uint8], IntArray]


def load(experiment: Experiment) -> tuple[Examples, Examples]:
    """Return training and test images with their writers as owners.

    Inputs are 1 - x: ink is 1, paper 0, as in MNIST. A fifth of each writer's images of each class, chosen by the
    run's seed, is for tests. Files are read once per process.

    Raises:
        TaskError: the files are not found, with what to do about it, or not what they should be.
    """
    folder = find_folder(
        "femnist",
        experiment.task.data_dir,
        (cache_dir() / "femnist",),
        f"put there some or all of the files all_data_*.json that {_PUBLISHED}, or set task.data_dir to their folder",
    )
    images, labels, writers = _read_folder(folder)
    rng = generator(experiment.seed, "femnist-test")
    train, test = stratified_split(writers * _CLASSES + labels, _TEST_SHARE, rng)

    def take(chosen: IntArray) -> Examples:
        pixels, classes = torch.from_numpy(images[chosen]), torch.from_numpy(labels[chosen])
        return Examples(pixels.view(-1, 1, _SIDE, _SIDE), classes, std=255.0, owners=writers[chosen])

    return take(train), take(test)


@cache
def _read_folder(folder: Path) -> tuple[npt.NDArray[np.uint8], IntArray, IntArray]:
    """Return pixels (examples, 784), classes and writers, these numbered in the order of the files."""
    paths = sorted(folder.glob("all_data_*.json"), key=lambda path: (len(path.name), path.name))
    if not paths:
        raise TaskError(f"{folder}: there is no all_data_*.json, as {_PUBLISHED}")
    written: dict[str, Written] = {}
    for path in paths:
        for writer, examples in _read(path).items():
            if writer in written:
                raise TaskError(f"{path}: writer {writer!r} is in another file too")
            written[writer] = examples
    images, labels = zip(*written.values(), strict=True)
    writers = np.repeat(np.arange(len(written)), [len(part) for part in labels])
    return np.concatenate(images), np.concatenate(labels), writers


def _read(path: Path) -> dict[str, Written]:
    try:
        with path.open(encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise TaskError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{path}: not valid JSON: {error}") from error
    match content:
        case {"users": [_, *_] as users, "user_data": dict() as data} if all(str(user) in data for user in users):
            return {str(user): _examples(data[str(user)], f"{path}: writer {str(user)!r}") for user in users}
    raise TaskError(f"{path}: expected an object with 'users', a list of names, and 'user_data' for each of them")


def _examples(content: Any, what: str) -> Written:
    match content:
        case {"x": [_, *_] as x, "y": [_, *_] as y}:
            try:
                images, labels = np.array(x, dtype=np.float32), np.array(y, dtype=np.float32)
            except (TypeError, ValueError) as error:
                raise TaskError(f"{what}: {error}") from error
            if images.shape != (len(labels), _PIXELS) or not ((images >= 0) & (images <= 1)).all():
                raise TaskError(f"{what}: expected {len(labels)} × {_PIXELS} numbers from 0 to 1 in 'x'")
            if labels.ndim != 1 or not np.isin(labels, np.arange(_CLASSES)).all():
                raise TaskError(f"{what}: expected integers from 0 to {_CLASSES - 1} in 'y'")
            return np.rint((1 - images) * 255).astype(np.uint8), labels.astype(np.int64)
    raise TaskError(f"{what}: expected 'x' and 'y', lists that are not empty")
