"""Pruned models to choose from: how many weights each keeps of every tensor."""

from collections.abc import Sequence
from math import prod

import numpy as np

from lotteryfl.common.pruning.layerdensities import LayerDensities, layer_densities
from lotteryfl.common.randomness import generator


def candidate_counts(
    shapes: Sequence[Sequence[int]],
    density: float,
    spread: float,
    candidates: int,
    seed: int,
    by: LayerDensities = "uniform",
) -> list[list[int]]:
    """Return for each candidate how many weights it keeps of every tensor: together the density, or less.

    The first keeps of each what `layer_densities` says; of the others each tensor's share has noise of its own.

    Args:
        shapes: of the tensors.
        density: of all weights together.
        spread: a tensor's share is 1 - spread to 1 + spread times the first's, before all are made to fit the density.
        candidates: how many.
        seed: the same draws everywhere.
        by: what the first's densities go by.
    """
    total = np.asarray([prod(shape) for shape in shapes], dtype=np.float64)
    shares = 1 - spread + 2 * spread * generator(seed, "candidates").random((candidates, len(shapes)))
    shares[0] = 1
    wanted = shares * total * (np.asarray(layer_densities(shapes, density, by)) / density)
    wanted *= density * total.sum() / wanted.sum(axis=1, keepdims=True)
    edges = np.floor(np.cumsum(np.minimum(wanted, total), axis=1) + 0.5).astype(np.int64)
    return [[int(count) for count in np.diff(row, prepend=0)] for row in edges]
