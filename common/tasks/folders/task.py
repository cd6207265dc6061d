"""The task "folders": client k's data lie in a folder of `task.data_dir`.

That folder is called k. Where no folder is called by a number, clients are the folders in the order of their names.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.randomness import generator
from lotteryfl.common.tasks.folders.batches import as_taken
from lotteryfl.common.tasks.folders.images import find_images, read_images
from lotteryfl.common.tasks.folders.models import build_model
from lotteryfl.common.tasks.folders.options import Options, read_options
from lotteryfl.common.tasks.folders.tables import Labels, Pair, find_table, read_table
from lotteryfl.common.tasks.partition import IntArray, stratified_split

_KNOWN = ("label", "test_share")


def options_of(experiment: Experiment) -> Options:
    """Return what `task.options` says of inputs and labels."""
    return read_options(experiment, _KNOWN)


def model(experiment: Experiment) -> nn.Module:
    """Build the experiment's model: what its inputs are like is said by `task.options`."""
    return build_model(experiment, options_of(experiment))


def client(k: int, experiment: Experiment) -> tuple[Any, Any, Any]:
    """Return training, validation and test data of one client.

    What has no part of its own is split off: `task.options.test_share` for tests, `partition.validation_share` of what
    is left for validation (0: all of it is for that too), class by class where there are classes.

    Raises:
        TaskError: its folder is not there, or holds something else.
    """
    options = options_of(experiment)
    folder = _folder_of(k, experiment)
    train = _read(folder, "train", options)
    if train is None:
        train = _read(folder, "", options)
    if train is None:
        raise TaskError(f"{folder}: expected train/ or class folders with images, or a .npz or .csv file")
    test, validation = _read(folder, "test", options), _read(folder, "validation", options)
    if test is None:
        train, test = _split(train, options.share("test_share", 0.2), options, experiment.seed, "folders-test", k)
    if validation is None:
        validation = train
        if share := experiment.partition.validation_share:
            train, validation = _split(train, share, options, experiment.seed, "folders-validation", k)
    parts = (as_taken(*part, options, experiment) for part in (train, validation, test))
    return tuple(parts)


def _folder_of(k: int, experiment: Experiment) -> Path:
    if not experiment.task.data_dir:
        raise TaskError("task.data_dir = '': expected the folder of the clients' folders")
    root = Path(experiment.task.data_dir).expanduser()
    try:
        folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise TaskError(f"task.data_dir = {str(root)!r}: {error.strerror or error}") from error
    if str(k) in folders:
        return root / str(k)
    if any(name.isdecimal() for name in folders):
        raise TaskError(f"{root}: has no folder {k} for client {k}")
    if len(folders) != experiment.clients:
        raise TaskError(
            f"{root}: holds {len(folders)} folders, expected one for each of {experiment.clients} clients, or folders "
            "called by the clients' numbers"
        )
    return root / folders[k]


def _read(folder: Path, part: str, options: Options) -> Pair | None:
    """Return a part of a client's data; None: it has no such part."""
    if (table := find_table(folder, part)) is not None:
        return read_table(table, options)
    if options.is_table:
        return None
    images = find_images(folder / part, options)
    return read_images(images, options) if images else None


def _split(pair: Pair, share: float, options: Options, seed: int, purpose: str, client_: int) -> tuple[Pair, Pair]:
    inputs, labels = pair
    classes = labels.astype(np.int64) if options.classes else np.zeros(len(labels), dtype=np.int64)
    first, second = stratified_split(classes, share, generator(seed, purpose, client_))
    return _take(inputs, labels, first), _take(inputs, labels, second)


def _take(inputs: npt.NDArray[np.float32], labels: Labels, chosen: IntArray) -> Pair:
    return inputs[chosen], labels[chosen]
