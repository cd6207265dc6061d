"""A client's update, bounded and made noisy before it leaves."""

import math
import os
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.noise import Source, gaussian
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.modeltensors import ModelTensor
from lotteryfl.common.training.loop import OnStep
from lotteryfl.common.wire.table import TensorTable


def protect_update(
    table: TensorTable,
    tensors: Mapping[str, Tensor],
    start: Mapping[str, Tensor],
    masks: Masks,
    *,
    clip_norm: float,
    deviation: float = 0.0,
    source: Source = os.urandom,
) -> float:
    """Scale an update down to an L2 norm, and add Gaussian noise to what is left of it; in place.

    The update is all floating-point values that a mask keeps, or that are under none, minus those of before the
    work, as aggregation sees it. What a mask does not keep stays as it is. The arithmetic is in float64; the values
    are then rounded to their own dtype.

    Args:
        table: of the model.
        tensors: after the work, by plain name; changed.
        start: the floating-point ones before it.
        masks: packed masks that are in force after the work.
        clip_norm: the bound, more than 0.
        deviation: standard deviation of the noise; 0: none.
        source: of the noise.

    Returns:
        The norm before; not finite where a value is not.
    """
    # No BLAS: its sums depend on the number of cores.
    squares = (float(update.square().sum()) for _, update, _ in _updates(table, tensors, start, masks))
    norm = math.sqrt(sum(squares))
    lost = 1 - min(1.0, clip_norm / norm) if norm else 0.0
    for tensor, update, kept in _updates(table, tensors, start, masks):
        if not (lost or deviation):
            break
        change = update.mul_(-lost)
        if deviation:
            noise = gaussian(change.numel(), deviation, source).view(change.shape)
            change += noise if kept is None else noise * kept
        tensor.copy_(change.add_(_wide(tensor)).to(tensor.dtype))
    return norm


class UpdateBound:
    """Bounds what a client's work may change of the model, as the experiment's `[privacy]` says."""

    def __init__(self, experiment: Experiment, table: TensorTable) -> None:
        """Set by what updates are bounded.

        Args:
            experiment: the resolved experiment.
            table: of what travels.
        """
        self._privacy = experiment.privacy
        self._rounds = experiment.rounds
        self._table = table.model

    def start(self, items: Mapping[str, ModelTensor], round_: int) -> dict[str, Tensor]:
        """Return what an update is measured from, where it is to be bounded; otherwise nothing.

        The last round's results go into no model: only a client that trusts no coordinator bounds its own.

        Args:
            items: of the model that the work starts from, by plain name.
            round_: of the assignment.
        """
        is_bounded = round_ <= self._rounds or self._privacy.noise == "client"
        if not (self._privacy.clip_norm and is_bounded):
            return {}
        floating = [spec.name for spec in self._table if spec.dtype.is_floating_point]
        return {name: items[name].tensor.detach().clone() for name in floating}

    def apply(self, tensors: Mapping[str, Tensor], start: Mapping[str, Tensor], masks: Masks) -> None:
        """Bound an update in place, and add the client's own noise; from nothing, nothing is bounded.

        Args:
            tensors: after the work, by plain name.
            start: what `start` returned before it.
            masks: packed masks that are in force after the work.
        """
        if start:
            bound, own_noise = self._privacy.clip_norm, self._privacy.noise == "client"
            deviation = bound * self._privacy.noise_multiplier if own_noise else 0.0
            protect_update(self._table, tensors, start, masks, clip_norm=bound, deviation=deviation)


def without_loss(on_step: OnStep) -> OnStep:
    """Let progress be told, and nothing of what the examples' loss is."""
    return lambda epoch, step, loss: on_step(epoch, step, torch.zeros_like(loss))


def _updates(
    table: TensorTable, tensors: Mapping[str, Tensor], start: Mapping[str, Tensor], masks: Masks
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield every floating-point tensor with its update, float64, on the CPU, 0 off its mask, and the mask."""
    for spec in table:
        if not spec.dtype.is_floating_point:
            continue
        tensor = tensors[spec.name]
        now, before = _wide(tensor), _wide(start[spec.name])
        constant = ~before.isfinite() & ((now == before) | (now.isnan() & before.isnan()))
        update = (now - before).masked_fill_(constant, 0)  # inf - inf
        kept = packedmasks.unpack(masks[spec.name], spec.shape) if spec.name in masks else None
        yield tensor, update if kept is None else update.mul_(kept), kept


def _wide(tensor: Tensor) -> Tensor:
    """Return it in float64 on the CPU, widened there: not every device has float64."""
    return tensor.cpu().double()
