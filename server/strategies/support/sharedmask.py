"""Masks that are drawn or made of values, for all clients or for one."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.packedmasks import PackedMask
from lotteryfl.common.pruning.magnitude import Weight, masks_without_smallest
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.wire.table import TensorSpec, TensorTable


def largest(table: TensorTable, values: Mapping[str, Tensor], density: float) -> dict[str, PackedMask]:
    """Return masks that keep a share of the prunable weights: the largest magnitudes over all tensors."""
    return _largest([spec for spec in table if spec.prunable], values, density)


def so_many_largest(table: TensorTable, values: Mapping[str, Tensor], count: int) -> dict[str, PackedMask]:
    """Return masks that keep so many of the prunable weights: the largest magnitudes over all tensors."""
    return _largest_of([spec for spec in table if spec.prunable], values, count)


def largest_of_each(table: TensorTable, values: Mapping[str, Tensor], density: float) -> dict[str, PackedMask]:
    """Return masks that keep the same share of every prunable tensor: its largest magnitudes."""
    masks: dict[str, PackedMask] = {}
    for spec in table:
        if spec.prunable:
            masks |= _largest([spec], values, density)
    return masks


def random_masks(table: TensorTable, density: float, seed: int) -> dict[str, PackedMask]:
    """Return masks that keep the same share of every prunable tensor, drawn at random."""
    drawn = torch.Generator().manual_seed(derive_seed(seed, "initial mask"))
    values = {spec.name: torch.rand(spec.shape, generator=drawn) for spec in table if spec.prunable}
    return largest_of_each(table, values, density)


def random_masks_by_size(table: TensorTable, density: float, seed: int) -> dict[str, PackedMask]:
    """Return masks that keep a share of the prunable weights, drawn at random: more of tensors that are small.

    A tensor keeps a share that goes as the sum of its sizes by their product, at most all ("Erdős-Rényi-Kernel", Evci
    et al. 2020, "Rigging the Lottery: Making All Tickets Winners", section 3).
    """
    drawn = torch.Generator().manual_seed(seed)
    specs = [spec for spec in table if spec.prunable]
    densities = _densities_by_size(specs, density)
    masks: dict[str, PackedMask] = {}
    for spec in specs:
        masks |= _largest([spec], {spec.name: torch.rand(spec.shape, generator=drawn)}, densities.get(spec.name, 1.0))
    return masks


def _densities_by_size(specs: Iterable[TensorSpec], density: float) -> dict[str, float]:
    """Return by name what to keep of each tensor; what would be more than whole is whole, and is not returned."""
    rest = {spec: (sum(spec.shape) or 1) / spec.numel for spec in specs if spec.numel}
    left = density * sum(spec.numel for spec in rest)
    while rest:
        factor, largest_share = left / sum(share * spec.numel for spec, share in rest.items()), max(rest.values())
        if factor * largest_share <= 1:
            return {spec.name: factor * share for spec, share in rest.items()}
        left -= sum(spec.numel for spec, share in rest.items() if share == largest_share)
        rest = {spec: share for spec, share in rest.items() if share != largest_share}
    return {}


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
