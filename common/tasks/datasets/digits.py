"""Handwritten digits of 8×8 pixels, 1,797 of them: they come with scikit-learn (Alpaydin and Kaynak 1998)."""

from functools import cache

import numpy as np
import torch

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.randomness import generator
from lotteryfl.common.tasks.builtin import Examples
from lotteryfl.common.tasks.partition import IntArray, stratified_split

_TEST_SHARE = 0.25


def load(experiment: Experiment) -> tuple[Examples, Examples]:
    """Return training and test images: a stratified quarter, chosen by the run's seed, is for tests."""
    _, labels = _digits()
    rng = generator(experiment.seed, "digits-test")
    train, test = stratified_split(labels, _TEST_SHARE, rng)
    return _take(train), _take(test)


def _take(indices: IntArray) -> Examples:
    pixels, labels = _digits()
    images = torch.from_numpy(pixels[indices]).unsqueeze(1)
    # Pixels are 0 … 16: inputs are pixel / 16.
    return Examples(images, torch.from_numpy(labels[indices]), std=16.0)


@cache
def _digits() -> tuple[np.typing.NDArray[np.uint8], IntArray]:
    from sklearn.datasets import load_digits  # here, because importing it takes a second

    bunch = load_digits()
    return bunch.images.astype(np.uint8), bunch.target.astype(np.int64)
