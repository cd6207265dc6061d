"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017)."""

from pathlib import Path

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.tasks.builtin import Examples
from lotteryfl.common.tasks.datasets.idximages import IdxSource, load_idx_images

_SOURCES = {
    "fashion-mnist": IdxSource(
        "FashionMNIST",
        "https://github.com/zalandoresearch/fashion-mnist",
        0.2860,
        0.3530,
        system=(Path("/usr/share/datasets/fashion-mnist"),),
        remedy="install the Debian package dataset-fashion-mnist, ",
    ),
    "mnist": IdxSource("MNIST", "http://yann.lecun.com/exdb/mnist", 0.1307, 0.3081),
}


def load(experiment: Experiment) -> tuple[Examples, Examples]:
    """Return training and test images; see `load_idx_images`."""
    name = experiment.task.name
    return load_idx_images(name, _SOURCES[name], experiment.task.data_dir)
