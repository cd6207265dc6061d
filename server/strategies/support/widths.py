"""Narrower models as masks over one: the first units of every layer, and what they are fed by."""

import math
from collections.abc import Sequence

import torch

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.packedmasks import PackedMask
from lotteryfl.common.wire.layers import is_matrix, module_of
from lotteryfl.common.wire.table import TensorSpec, TensorTable

_ROUNDING = 1e-9
"""By which a width times a number of units may be above a whole number that it stands for."""


def masks_of_width(table: TensorTable, width: float) -> dict[str, PackedMask]:
    """Return masks that keep a share of every layer's units, the first ones, rounded up, and the weights between them.

    The model's inputs and outputs stay: the columns of the first layer, and the rows of the last. A layer is fed by the
    last one before it, in the model's order, of as many units as it has inputs; a linear layer also by a convolution
    that was flattened, of whose units they are a multiple.

    Args:
        table: of the model; what is not prunable of it has no mask.
        width: in (0, 1].

    Raises:
        ExperimentError: there is no such layer, or none at all, or a matrix of none.
    """
    layers = [spec for spec in table.in_model if spec.prunable and is_matrix(spec)]
    if not layers:
        raise ExperimentError(
            "strategy.name = 'heterofl': the model has no layer that can be pruned, expected one at least"
        )
    for spec in layers:
        if spec.name.rpartition(".")[2] != "weight":  # attention's in_proj_weight, positions
            raise ExperimentError(
                f"strategy.name = 'heterofl': {spec.name!r} of shape {list(spec.shape)}: expected the weight of a "
                "linear layer or a convolution, whose name ends in '.weight'"
            )
    masks: dict[str, PackedMask] = {}
    before: list[TensorSpec] = []
    for spec in table.in_model:
        if not spec.prunable:
            continue
        mask = torch.zeros(spec.shape, dtype=torch.bool)
        if is_matrix(spec):
            rows = spec.shape[0] if spec is layers[-1] else _share(width, spec.shape[0])
            columns = spec.shape[1] if spec is layers[0] else _kept(spec, spec.shape[1], before, width)
            mask[:rows, :columns] = True
            before.append(spec)
        elif module_of(spec.name) == module_of(layers[-1].name):
            mask[...] = True
        else:
            mask.view(-1)[: _kept(spec, spec.numel, before, width)] = True
        masks[spec.name] = packedmasks.pack(mask)
    return masks


def _share(width: float, units: int) -> int:
    return math.ceil(width * units - _ROUNDING)


def _kept(spec: TensorSpec, size: int, before: Sequence[TensorSpec], width: float) -> int:
    """Return how many of a layer's inputs, or of a vector's values, belong to units that are kept."""
    if size == 1:  # of a depthwise convolution; one value for all units
        return 1
    for layer in reversed(before):
        units = layer.shape[0]
        is_flattened = len(spec.shape) <= 2 < len(layer.shape) and size % units == 0
        if size == units or is_flattened:
            return _share(width, units) * (size // units)
    known = ", ".join(f"{each.name} {each.shape[0]}" for each in before) or "none"
    raise ExperimentError(
        f"strategy.name = 'heterofl': {spec.name!r} of shape {list(spec.shape)}: expected {size} to be the units of a "
        f"layer before it, or a multiple of a convolution's; they are {known}"
    )
