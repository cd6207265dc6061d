"""Tiny-ImageNet (Stanford's CS231n, 2015): 200 classes of ImageNet, 64×64 pixels in colour, a file each.

`wnids.txt` lists the classes, `train/WNID/images/*.JPEG` are theirs. Those of test/ have no labels, so that tests are
by val/: `val/val_annotations.txt` has a line for each of `val/images/*.JPEG`, columns between tabs, the first two its
name and its class.
"""

from functools import cache
from pathlib import Path

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.models import IMAGES
from lotteryfl.common.tasks.builtin import Examples
from lotteryfl.common.tasks.datasets.imagefiles import Labelled, decoded, in_class_folders
from lotteryfl.common.tasks.datasets.places import cache_dir, find_folder, unreadable
from lotteryfl.common.text import quoted

_, _SIZE, _MOST_CLASSES = IMAGES["tiny-imagenet"]
_MEAN, _STD = (0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821)
_PUBLISHED = "tiny-imagenet-200.zip of http://cs231n.stanford.edu"
_MOST_BYTES = 1 << 24
"""Of a list; val_annotations.txt has 0.4 MB."""


def load(experiment: Experiment) -> tuple[Examples, Examples]:
    """Return the 100,000 training and 10,000 validation images, read once per process.

    Classes are numbered in the order of their names, as torchvision's ImageFolder does.

    Raises:
        TaskError: the files are not found, with what to do about it, or not what they should be; or there is no Pillow.
    """
    folder = find_folder(
        "tiny-imagenet",
        experiment.task.data_dir,
        (cache_dir() / "tiny-imagenet-200",),
        f"unpack {_PUBLISHED} there, or set task.data_dir to its folder, the one with wnids.txt",
    )
    return _read_folder(folder)


@cache
def _read_folder(folder: Path) -> tuple[Examples, Examples]:
    classes = _classes(folder / "wnids.txt")
    test = _annotated(folder / "val", classes)
    train = in_class_folders(folder / "train", classes, "images", _PUBLISHED)
    return decoded(train, _SIZE, _MEAN, _STD), decoded(test, _SIZE, _MEAN, _STD)


def _classes(path: Path) -> list[str]:
    names = sorted(_lines(path))
    if not 1 <= len(set(names)) == len(names) <= _MOST_CLASSES or not all(map(_is_name, names)):
        raise TaskError(f"{path}: expected 1 to {_MOST_CLASSES} lines with a class each, as n01443537")
    return names


def _annotated(folder: Path, classes: list[str]) -> Labelled:
    """Return the images that val_annotations.txt lists, in its order."""
    path, found = folder / "val_annotations.txt", []
    labels = {name: label for label, name in enumerate(classes)}
    for number, line in enumerate(_lines(path), start=1):
        image, _, rest = line.partition("\t")
        name = rest.partition("\t")[0]
        if not _is_name(image) or name not in labels:
            raise TaskError(
                f"{path}: line {number}: expected an image and one of {len(classes)} classes, got {quoted(line)}"
            )
        found.append((folder / "images" / image, labels[name]))
    if not found:
        raise TaskError(f"{path}: is empty")
    return found


def _is_name(text: str) -> bool:
    """Whether it names something in a folder, and nothing elsewhere."""
    return text not in ("", ".", "..") and Path(text).name == text


def _lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise unreadable(path, error, _PUBLISHED) from error
    except ValueError as error:
        raise TaskError(f"{path}: {error}") from error
    if len(content) > _MOST_BYTES:
        raise TaskError(f"{path}: has more than {_MOST_BYTES} characters, expected fewer")
    return content.splitlines()
