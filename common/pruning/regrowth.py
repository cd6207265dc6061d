"""Dynamic sparse training: weights leave a mask, and as many others enter it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lotteryfl.common.pruning.magnitude import counts_pruned
from lotteryfl.common.pruning.modeltensors import ModelTensor, model_tensors, zero_pruned
from lotteryfl.common.pruning.state import settle, where_made


def exchange_weights(model: nn.Module, rate: float, gradients: Mapping[str, Tensor]) -> None:
    """In every masked tensor prune the kept weights of least magnitude and grow as many of greatest gradient.

    The density of every tensor stays what it was; what grows starts from 0 (Evci et al. 2020, "Rigging the
    Lottery", section 3). Of equals the lower flat index is the smaller one.

    Args:
        model: any module; changed in place. Tensors without a mask stay as they are.
        rate: share in [0, 1] of the kept weights that are exchanged, rounded to whole weights.
        gradients: plain name → gradient of the loss by the whole tensor, pruned weights included.

    Raises:
        ValueError: rate is out of range, or a masked tensor has no gradient of its shape.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate={rate}: expected 0 to 1")
    masked = [(item, mask) for item in model_tensors(model) if (mask := item.mask) is not None]
    for item, _ in masked:
        gradient = gradients.get(item.name)
        if gradient is None or gradient.shape != item.tensor.shape:
            shape = None if gradient is None else list(gradient.shape)
            raise ValueError(f"gradient of {item.name!r}: shape {shape}, expected {list(item.tensor.shape)}")
    with where_made(model):
        for (item, mask), pruned in zip(masked, counts_pruned([mask for _, mask in masked]), strict=True):
            count = min(round(rate * (mask.numel() - pruned)), pruned)
            _exchange(item, mask, count, gradients[item.name])
        settle(model)


def _exchange(item: ModelTensor, mask: Tensor, count: int, gradient: Tensor) -> None:
    kept = mask.reshape(-1) != 0
    magnitudes = item.tensor.detach().reshape(-1).abs().masked_fill(~kept, torch.inf)
    leaving = magnitudes.sort(stable=True).indices[:count]
    scores = gradient.reshape(-1).abs().masked_fill(kept, -1)  # who leaves cannot enter again at once
    entering = scores.sort(stable=True, descending=True).indices[:count]
    new = item.new_mask().copy_(mask)
    new.view(-1)[leaving] = 0
    new.view(-1)[entering] = 1
    zero_pruned(item.tensor, mask)  # what enters starts from 0, whatever a dense tensor held there
    item.put_mask(new)
    zero_pruned(item.tensor, new)
