"""How differently the classes are mixed at different clients, as one number."""

import numpy as np
import numpy.typing as npt


def label_skew(counts: npt.NDArray[np.integer]) -> float:
    """Return the mean total-variation distance between a client's class mix and everybody's.

    Σ_k n_k/n · ½ Σ_c |p_k(c) - p(c)|, where p_k is client k's class distribution, p that of all n examples together:
    half of the distance of Zhao et al. 2018 (Federated Learning with Non-IID Data), section 3.2, averaged over clients
    by their n_k examples. It is the share of examples that would have to be of another class for every client to have
    the same mix.

    Args:
        counts: (clients, classes), examples held.

    Returns:
        0 where all mixes are equal, up to 1 - Σ_c p(c)² where every client has one class. Small data sets differ by
        chance: 40 examples of 10 classes, drawn evenly, have about 0.19.

    Raises:
        ValueError: no examples, a negative count, or an array of another shape.
    """
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.sum() == 0 or counts.min() < 0:
        raise ValueError(f"counts of shape {counts.shape}: expected (clients, classes), not negative and not all 0")
    sizes = counts.sum(axis=1, keepdims=True)
    everybody = counts.sum(axis=0) / counts.sum()
    # n_k · p_k(c) is the count itself: a client without examples counts for nothing.
    return float(np.abs(counts - sizes * everybody).sum() / (2 * counts.sum()))
