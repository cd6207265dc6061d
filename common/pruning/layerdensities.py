"""How dense each tensor is where a model is to have one density: as dense as all, or by its size."""

from collections.abc import Sequence
from math import prod
from typing import Literal, get_args

LayerDensities = Literal["uniform", "erk"]
LAYER_DENSITIES: tuple[LayerDensities, ...] = get_args(LayerDensities)


def layer_densities(shapes: Sequence[Sequence[int]], density: float, by: LayerDensities = "uniform") -> list[float]:
    """Return which share of each tensor is kept.

    "erk" keeps a share that goes as the sum of a tensor's sizes by their product, at most all ("Erdős-Rényi-Kernel",
    Evci et al. 2020, "Rigging the Lottery: Making All Tickets Winners", section 3); "uniform" the same of all.

    Args:
        shapes: of the tensors.
        density: of all of them together, in (0, 1].
        by: what it goes by.
    """
    return [density] * len(shapes) if by == "uniform" else _by_size(shapes, density)


def _by_size(shapes: Sequence[Sequence[int]], density: float) -> list[float]:
    sizes = [prod(shape) for shape in shapes]
    found = [1.0] * len(shapes)  # what would be more than whole is whole, and so is what has nothing to keep
    rest = {at: (sum(shape) or 1) / size for at, (shape, size) in enumerate(zip(shapes, sizes, strict=True)) if size}
    left = density * sum(sizes[at] for at in rest)
    while rest:
        factor, largest = left / sum(share * sizes[at] for at, share in rest.items()), max(rest.values())
        if factor * largest <= 1:
            for at, share in rest.items():
                found[at] = factor * share
            break
        left -= sum(sizes[at] for at, share in rest.items() if share == largest)
        rest = {at: share for at, share in rest.items() if share != largest}
    return found
