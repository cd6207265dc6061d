"""EMNIST (Cohen et al. 2017): letters and digits of NIST Special Database 19, three of its splits."""

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.tasks.builtin import Examples
from lotteryfl.common.tasks.datasets.idximages import IdxSource, load_idx_images


def _source(split: str, classes: int, mean: float, std: float, first_label: int = 0) -> IdxSource:
    return IdxSource(
        "EMNIST",
        "https://www.nist.gov/itl/products-and-services/emnist-dataset",
        mean,
        std,
        parts=(f"emnist-{split}-train", f"emnist-{split}-test"),
        split=split,
        classes=classes,
        first_label=first_label,
        transposed=True,
    )


_SOURCES = {
    "emnist-balanced": _source("balanced", 47, 0.1751, 0.3332),
    "emnist-letters": _source("letters", 26, 0.1722, 0.3309, first_label=1),
    "emnist-byclass": _source("byclass", 62, 0.1736, 0.3317),
}


def load(experiment: Experiment) -> tuple[Examples, Examples]:
    """Return training and test images, upright, with labels from 0; see `load_idx_images`."""
    name = experiment.task.name
    return load_idx_images(name, _SOURCES[name], experiment.task.data_dir)
