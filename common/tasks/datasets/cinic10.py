"""CINIC-10 (Darlow et al. 2018): CIFAR-10's classes, with images of ImageNet; 32×32 pixels in colour, a file each.

There are train/CLASS/*.png, test/CLASS/*.png and valid/CLASS/*.png, 9,000 in each; the last are not used.
"""

from functools import cache
from pathlib import Path

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.tasks.builtin import Examples
from lotteryfl.common.tasks.datasets.imagefiles import decoded, in_class_folders
from lotteryfl.common.tasks.datasets.places import cache_dir, find_folder

_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SIZE = 32
_MEAN, _STD = (0.4789, 0.4723, 0.4305), (0.2421, 0.2383, 0.2587)
_PUBLISHED = "CINIC-10.tar.gz of https://github.com/BayesWatch/cinic-10"


def load(experiment: Experiment) -> tuple[Examples, Examples]:
    """Return the 90,000 training and 90,000 test images, read once per process.

    Raises:
        TaskError: the files are not found, with what to do about it, or not what they should be; or there is no Pillow.
    """
    folder = find_folder(
        "cinic10",
        experiment.task.data_dir,
        (cache_dir() / "cinic-10",),
        f"unpack {_PUBLISHED} there, or set task.data_dir to its folder, the one with train/ and test/",
    )
    return _read(folder / "train"), _read(folder / "test")


@cache
def _read(folder: Path) -> Examples:
    return decoded(in_class_folders(folder, _CLASSES, "", _PUBLISHED), _SIZE, _MEAN, _STD)
