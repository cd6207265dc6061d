"""A figure of many clients, or of many runs, as its mean and how far the single ones are from it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Spread(NamedTuple):
    """How at least one value spreads."""

    mean: float
    std: float
    """Population standard deviation (divided by n)."""
    worst_decile: float
    """Mean of the worst tenth of the values, rounded up: of 25 values of the lowest 3, where more is better."""


def spread(values: Sequence[float], *, higher_is_better: bool = True) -> Spread:
    """Return how values are spread.

    Raises:
        ValueError: there is none.
    """
    if not values:
        raise ValueError("no values to take the mean of")
    ascending = np.sort(np.asarray(values, dtype=float))
    tenth = -(-len(ascending) // 10)
    worst = ascending[:tenth] if higher_is_better else ascending[-tenth:]
    return Spread(float(ascending.mean()), float(ascending.std()), float(worst.mean()))
