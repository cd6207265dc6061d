"""Pruned models to choose from: how many weights each keeps of every tensor."""

from collections.abc import Sequence

import numpy as np

from lotteryfl.common.randomness import generator


def candidate_counts(
    sizes: Sequence[int], density: float, spread: float, candidates: int, seed: int
) -> list[list[int]]:
    """Return for each candidate how many weights it keeps of every tensor: together the density, or less.

    The first keeps the same share of all; of the others each tensor's share has noise of its own.

    Args:
        sizes: of the tensors.
        density: of all weights together.
        spread: a tensor's share is 1 - spread to 1 + spread times the density, before all are made to fit it.
        candidates: how many.
        seed: the same draws everywhere.
    """
    total = np.asarray(sizes, dtype=np.float64)
    shares = 1 - spread + 2 * spread * generator(seed, "candidates").random((candidates, len(sizes)))
    shares[0] = 1
    wanted = shares * total
    wanted *= density * total.sum() / wanted.sum(axis=1, keepdims=True)
    edges = np.floor(np.cumsum(np.minimum(wanted, total), axis=1) + 0.5).astype(np.int64)
    return [[int(count) for count in np.diff(row, prepend=0)] for row in edges]
