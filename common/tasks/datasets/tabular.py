"""A generated table: 25,000 rows of 64 columns, 10 classes (scikit-learn's `make_classification`; Guyon 2003).

16 columns tell the classes apart, 16 are linear combinations of these, 32 are noise: a good ticket lets go of half of
its first layer. Each class is two clusters, and 1 % of the labels are random. The table is the same for every seed of a
run.
"""

from functools import cache

import torch

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.tasks.builtin import Examples

_ROWS, _TEST_ROWS, _SEED = 25_000, 5_000, 2003


def load(experiment: Experiment) -> tuple[Examples, Examples]:  # noqa: ARG001 - a loader's signature
    """Return 20,000 training and 5,000 test rows; every column has mean 0 and standard deviation 1 over all."""
    return _generate()


@cache
def _generate() -> tuple[Examples, Examples]:
    from sklearn.datasets import make_classification  # here, because importing it takes a second
    from sklearn.preprocessing import scale

    columns, classes = make_classification(
        _ROWS,
        n_features=64,
        n_informative=16,
        n_redundant=16,
        n_classes=10,
        n_clusters_per_class=2,
        class_sep=1.5,
        flip_y=0.01,
        random_state=_SEED,
    )
    inputs, labels = torch.from_numpy(scale(columns)).float(), torch.from_numpy(classes).long()
    return Examples(inputs[_TEST_ROWS:], labels[_TEST_ROWS:]), Examples(inputs[:_TEST_ROWS], labels[:_TEST_ROWS])
