"""Results of strategies whose clients return by how much parameters have changed, not what they are."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from lotteryfl.common.wire.table import TensorSpec, TensorTable


def unmoved(table: TensorTable, old: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what changes are differences from: 0 for each parameter, the old value of all else.

    Args:
        table: of the model and its strategy.
        old: the global model, by name.
    """
    return {
        spec.name: torch.zeros((), dtype=spec.dtype).expand(spec.shape) if _changes(spec) else old[spec.name]
        for spec in table
    }


def moved(
    table: TensorTable, old: Mapping[str, Tensor], changes: Iterable[tuple[str, Tensor]]
) -> Iterator[tuple[str, Tensor]]:
    """Yield the global model moved by the mean of the changes, parameters in float64.

    In their own dtype the sum would lose what a small change has beyond the last place of a large parameter, and with
    it the server's optimizer its gradient, which is old minus new.

    Args:
        table: of the model and its strategy.
        old: the global model, by name.
        changes: (name, what the changes came to), in float64; of what is no parameter, its new value.
    """
    for name, change in changes:
        yield name, old[name].double() + change if _changes(table[name]) else change


def narrowed(table: TensorTable, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors in the dtypes of their table."""
    for name, tensor in tensors:
        yield name, tensor.to(table[name].dtype)


def _changes(spec: TensorSpec) -> bool:
    return spec.role == "parameter" and spec.dtype.is_floating_point
