"""Noise that nobody can foretell: from the operating system's entropy, never from a run's seed."""

import os
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Source = Callable[[int], bytes]
"""How many → that many random bytes."""


def uniform(size: int, source: Source = os.urandom) -> Tensor:
    """Return float64 values (size,) in (0, 1), from 52 bits each; neither 0 nor 1 comes."""
    bits = np.frombuffer(source(8 * size), np.uint64) >> np.uint64(12)
    return torch.from_numpy((bits + 0.5) * 2.0**-52)


def gaussian(size: int, deviation: float, source: Source = os.urandom) -> Tensor:
    """Return float64 values (size,) of a normal distribution around 0, by the inverse of its distribution function.

    Every value takes bits of its own from the source: unlike a generator's, no state can be seen through to the others.

    Args:
        size: number of values.
        deviation: standard deviation.
        source: of randomness; all but tests leave it to the operating system.
    """
    values: Tensor = torch.special.ndtri(uniform(size, source))
    return values.mul_(deviation)
