"""Handwritten digits of 8×8 pixels, 1,797 of them: they come with scikit-learn (Alpaydin and Kaynak 1998)."""

from functools import cache

import torch

from common.experiment import Experiment
from common.partition import stratified_split
from common.randomness import generator
from common.tasks.images import LabelledImages

_TEST_SHARE = 0.25


def load(experiment: Experiment) -> tuple[LabelledImages, LabelledImages]:
    """Return training and test images: a stratified quarter, chosen by the run's seed, is for tests."""
    digits = _digits()
    rng = generator(experiment.seed, "digits-test")
    train, test = stratified_split(digits.labels.numpy(), _TEST_SHARE, rng)
    return digits.take(train), digits.take(test)


@cache
def _digits() -> LabelledImages:
    from sklearn.datasets import load_digits  # here, because importing it takes a second

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1)
    # Pixels are 0 … 16: inputs are pixel / 16.
    return LabelledImages(images, torch.from_numpy(bunch.target).long(), mean=0.0, std=16.0)
