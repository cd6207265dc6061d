"""Examples by their class: split, divided and chosen in proportion."""

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def stratified_split(
    labels: npt.NDArray[np.integer], share: float, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Split positions 0 … len(labels) - 1 in two, class by class.

    The second part holds round(share * m) of a class of m ≥ 2 examples, but at least one and at most m - 1:
    every class stays in the first part, where a class of one example is too.

    Returns:
        The positions of both parts, each in ascending order.
    """
    second = [np.empty(0, dtype=np.int64)]
    for positions in by_class(labels).values():
        size = min(max(1, round(share * len(positions))), len(positions) - 1)
        second.append(rng.permutation(positions)[:size])
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[np.concatenate(second)] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def in_proportion(labels: IntArray, model: IntArray, rng: np.random.Generator) -> IntArray:
    """Choose as many of `labels` as have the class proportions of `model`; return their positions."""
    if not len(model):
        return model
    classes, weights = np.unique(model, return_counts=True)
    available = [np.flatnonzero(labels == label) for label in classes]
    total = min(len(found) * len(model) // weight for found, weight in zip(available, weights, strict=True))
    counts = apportion(weights, int(total))
    chosen = [rng.permutation(found)[:count] for found, count in zip(available, counts, strict=True)]
    return np.sort(np.concatenate(chosen))


def apportion(weights: npt.NDArray[np.floating | np.integer], total: int | IntArray) -> IntArray:
    """Divide `total` in proportion to `weights` into integers, by largest remainder.

    Args:
        weights: (parts,), or (rows, parts).
        total: of all parts; (rows, 1), where there are rows.
    """
    exact: npt.NDArray[np.float64] = weights * total / weights.sum(axis=-1, keepdims=True)
    counts = np.floor(exact).astype(np.int64)
    short = total - counts.sum(axis=-1, keepdims=True)
    ranks = np.argsort(np.argsort(counts - exact, axis=-1, kind="stable"), axis=-1)
    counts += ranks < short
    return counts


def by_class(labels: npt.NDArray[np.integer]) -> dict[int, IntArray]:
    """Return the positions of every class's examples, ascending."""
    order = np.argsort(labels, kind="stable")
    classes, starts = np.unique(labels[order], return_index=True)
    return dict(zip(classes.tolist(), np.split(order, starts[1:]), strict=True)) if len(order) else {}
