"""MNIST and its relatives: grey images of 28×28 pixels, from four IDX files that torchvision can download."""

import contextlib
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from lotteryfl.common.errors import TaskError
from lotteryfl.common.tasks.builtin import Examples
from lotteryfl.common.tasks.datasets.idx import read_idx
from lotteryfl.common.tasks.datasets.places import cache_dir, put_in_place

_SIDE = 28


@dataclass(frozen=True)
class IdxSource:
    """Which files hold a data set, where they are found, and what is in them."""

    torchvision: str
    """torchvision's class; its files lie in a folder of this name."""
    published: str
    """The page of whoever publishes them."""
    mean: float
    """Mean of the training pixels / 255."""
    std: float
    """Standard deviation of the training pixels / 255."""
    parts: tuple[str, str] = ("train", "t10k")
    """What the names of the training and the test files begin with."""
    split: str = ""
    """What torchvision's class calls this part of its data."""
    classes: int = 10
    first_label: int = 0
    transposed: bool = False
    """The images are stored column by column."""
    system: tuple[Path, ...] = ()
    """Where packages of operating systems put the files."""
    remedy: str = ""


def load_idx_images(name: str, source: IdxSource, data_dir: str) -> tuple[Examples, Examples]:
    """Return training and test images, read once per process.

    They are looked for in `data_dir`; where that is empty, where the operating system's package puts them, then in
    the user's cache, into which torchvision, where installed, downloads them.

    Raises:
        TaskError: they are not found, with what to do about it, or not what they should be.
    """
    return _read_folder(source, Path(data_dir).expanduser() if data_dir else _find(name, source))


@cache
def _read_folder(source: IdxSource, folder: Path) -> tuple[Examples, Examples]:
    train, test = source.parts
    return _read_part(source, folder, train), _read_part(source, folder, test)


def _read_part(source: IdxSource, folder: Path, part: str) -> Examples:
    images_path, labels_path = (
        _path(source, folder, f"{part}-images-idx3-ubyte"),
        _path(source, folder, f"{part}-labels-idx1-ubyte"),
    )
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if images.shape[1:] != (_SIDE, _SIDE):
        raise TaskError(f"{images_path}: images are {images.shape[1]}×{images.shape[2]}, expected {_SIDE}×{_SIDE}")
    if len(images) != len(labels):
        raise TaskError(f"{images_path} holds {len(images)} images, {labels_path} {len(labels)} labels")
    first, last = source.first_label, source.first_label + source.classes - 1
    if (wrong := labels[(labels < first) | (labels > last)]).size:
        raise TaskError(f"{labels_path}: holds the label {wrong.max()}, expected {first} to {last}")
    upright = np.ascontiguousarray(images.transpose(0, 2, 1)) if source.transposed else images
    return Examples(
        torch.from_numpy(upright).unsqueeze(1),
        torch.from_numpy(labels.astype(np.int64) - first),
        mean=source.mean * 255,
        std=source.std * 255,
    )


def _path(source: IdxSource, folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise TaskError(f"{folder}: there is no {name} or {name}.gz; it comes with {source.published}")


def _find(name: str, source: IdxSource) -> Path:
    downloaded = cache_dir() / source.torchvision / "raw"
    for folder in (*source.system, downloaded):
        if folder.is_dir():
            return folder
    _download(name, source, cache_dir())
    return downloaded


def _download(name: str, source: IdxSource, target: Path) -> None:
    try:
        from torchvision import datasets

        target.mkdir(parents=True, exist_ok=True)
        split = {"split": source.split} if source.split else {}
        # Into a folder of its own, then renamed: what other processes see in the cache is whole.
        with tempfile.TemporaryDirectory(dir=target) as partial, contextlib.redirect_stdout(sys.stderr):
            getattr(datasets, source.torchvision)(partial, download=True, **split)
            put_in_place(Path(partial) / source.torchvision, target / source.torchvision)
    except ImportError as error:
        places = ", ".join(map(str, (*source.system, target)))
        raise TaskError(
            f"task {name}: no data in {places}; {source.remedy}set task.data_dir to a folder with the four "
            "IDX files, or pip install torchvision to have them downloaded"
        ) from error
    except (OSError, RuntimeError) as error:
        raise TaskError(f"task {name}: the download into {target} failed: {error}") from error
