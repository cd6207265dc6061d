"""Masks that are drawn or made of values, for all clients or for one."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.packedmasks import PackedMask
from lotteryfl.common.pruning.layerdensities import LayerDensities, layer_densities
from lotteryfl.common.pruning.magnitude import Weight, masks_without_smallest
from lotteryfl.common.wire.table import TensorSpec, TensorTable


def largest(table: TensorTable, values: Mapping[str, Tensor], density: float) -> dict[str, PackedMask]:
    """Return masks that keep a share of the prunable weights: the largest magnitudes over all tensors."""
    return _largest([spec for spec in table if spec.prunable], values, density)


def so_many_largest(table: TensorTable, values: Mapping[str, Tensor], count: int) -> dict[str, PackedMask]:
    """Return masks that keep so many of the prunable weights: the largest magnitudes over all tensors."""
    return _largest_of([spec for spec in table if spec.prunable], values, count)


def largest_of_each(
    table: TensorTable, values: Mapping[str, Tensor], densities: Mapping[str, float]
) -> dict[str, PackedMask]:
    """Return masks that keep of every prunable tensor its largest magnitudes, as many as its density says."""
    masks: dict[str, PackedMask] = {}
    for spec in table:
        if spec.prunable:
            masks |= _largest([spec], values, densities[spec.name])
    return masks


def random_masks_by_size(table: TensorTable, density: float, seed: int) -> dict[str, PackedMask]:
    """Return masks that keep a share of the prunable weights, drawn at random: more of tensors that are small."""
    return largest_of_each(table, drawn(table, seed), densities_of(table, density, "erk"))


def densities_of(table: TensorTable, density: float, by: LayerDensities) -> dict[str, float]:
    """Return by name which share of each prunable tensor is kept."""
    specs = [spec for spec in table if spec.prunable]
    shares = layer_densities([spec.shape for spec in specs], density, by)
    return {spec.name: share for spec, share in zip(specs, shares, strict=True)}


def drawn(table: TensorTable, seed: int) -> dict[str, Tensor]:
    """Return for each prunable weight a random number in [0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return {spec.name: torch.rand(spec.shape, generator=generator) for spec in table if spec.prunable}


def adjusting_ends(experiment: Experiment) -> int:
    """Return after which round the mask stays."""
    return experiment.strategy.readjust_until or experiment.rounds // 2


def adjusts(experiment: Experiment, round_: int) -> bool:
    """Say whether a round's end is one of those, `readjust_every` apart, at which the mask changes."""
    return round_ % experiment.strategy.readjust_every == 0 and round_ <= adjusting_ends(experiment)


def adjusted_share(experiment: Experiment, round_: int) -> float:
    """Return the share of the kept weights in question: from `readjust_rate` by a cosine to 0 at `adjusting_ends`."""
    return experiment.strategy.readjust_rate * (1 + math.cos(math.pi * round_ / adjusting_ends(experiment))) / 2


def _largest(specs: Iterable[TensorSpec], values: Mapping[str, Tensor], density: float) -> dict[str, PackedMask]:
    specs = list(specs)
    return _largest_of(specs, values, round(density * sum(spec.numel for spec in specs)))


def _largest_of(specs: Sequence[TensorSpec], values: Mapping[str, Tensor], count: int) -> dict[str, PackedMask]:
    weights = (Weight(values[spec.name], None, 0) for spec in specs)
    masks = masks_without_smallest(weights, sum(spec.numel for spec in specs) - count)
    return {spec.name: packedmasks.pack(mask) for spec, mask in zip(specs, masks, strict=True)}
