"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017): 28×28 pixels, from four IDX files."""

import contextlib
import os
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from common.errors import TaskError
from common.experiment import Experiment
from common.tasks.idx import read_idx
from common.tasks.images import LabelledImages


@dataclass(frozen=True)
class _Source:
    torchvision: str
    """torchvision's class; its files lie in a folder of this name."""
    system: tuple[Path, ...]
    """Where packages of operating systems put the files."""
    mean: float
    std: float
    """Of the training pixels / 255."""
    remedy: str


_SOURCES = {
    "fashion-mnist": _Source(
        "FashionMNIST",
        (Path("/usr/share/datasets/fashion-mnist"),),
        0.2860,
        0.3530,
        "install the Debian package dataset-fashion-mnist, ",
    ),
    "mnist": _Source("MNIST", (), 0.1307, 0.3081, ""),
}

_CLASSES = 10
_SIDE = 28


def load(experiment: Experiment) -> tuple[LabelledImages, LabelledImages]:
    """Return training and test images, read once per process.

    They are looked for in `task.data_dir`; where that is empty, where the operating system's package puts
    them, then in the user's cache, into which torchvision, where installed, downloads them.

    Raises:
        TaskError: they are not found, with what to do about it, or not what they should be.
    """
    name, data_dir = experiment.task.name, experiment.task.data_dir
    folder = Path(data_dir).expanduser() if data_dir else _find(name)
    return _read_folder(name, folder)


@cache
def _read_folder(name: str, folder: Path) -> tuple[LabelledImages, LabelledImages]:
    return _read_part(name, folder, "train"), _read_part(name, folder, "t10k")


def _read_part(name: str, folder: Path, part: str) -> LabelledImages:
    images_path, labels_path = (
        _path(folder, f"{part}-images-idx3-ubyte"),
        _path(folder, f"{part}-labels-idx1-ubyte"),
    )
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if images.shape[1:] != (_SIDE, _SIDE):
        raise TaskError(f"{images_path}: images are {images.shape[1]}×{images.shape[2]}, expected {_SIDE}×{_SIDE}")
    if len(images) != len(labels):
        raise TaskError(f"{images_path} holds {len(images)} images, {labels_path} {len(labels)} labels")
    if labels.size and labels.max() >= _CLASSES:
        raise TaskError(f"{labels_path}: holds the label {labels.max()}, expected 0 to {_CLASSES - 1}")
    source = _SOURCES[name]
    return LabelledImages(
        torch.from_numpy(images).unsqueeze(1),
        torch.from_numpy(labels.astype(np.int64)),
        mean=source.mean * 255,
        std=source.std * 255,
    )


def _path(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise TaskError(f"{folder}: there is no {name} or {name}.gz")


def _find(name: str) -> Path:
    source = _SOURCES[name]
    cache_dir = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lotteryfl"
    downloaded = cache_dir / source.torchvision / "raw"
    for folder in (*source.system, downloaded):
        if folder.is_dir():
            return folder
    _download(name, cache_dir)
    return downloaded


def _download(name: str, cache_dir: Path) -> None:
    source = _SOURCES[name]
    try:
        from torchvision import datasets

        cache_dir.mkdir(parents=True, exist_ok=True)
        # Into a folder of its own, then renamed: what other processes see in the cache is whole.
        with tempfile.TemporaryDirectory(dir=cache_dir) as partial, contextlib.redirect_stdout(sys.stderr):
            getattr(datasets, source.torchvision)(partial, download=True)
            _publish(Path(partial) / source.torchvision, cache_dir / source.torchvision)
    except ImportError as error:
        places = ", ".join(map(str, (*source.system, cache_dir)))
        raise TaskError(
            f"task {name}: no data in {places}; {source.remedy}set task.data_dir to a folder with the four "
            "IDX files, or pip install torchvision to have them downloaded"
        ) from error
    except (OSError, RuntimeError) as error:
        raise TaskError(f"task {name}: the download into {cache_dir} failed: {error}") from error


def _publish(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
    except OSError:
        if not target.is_dir():  # there it is where another process was faster
            raise
