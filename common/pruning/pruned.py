"""Pruned weights of a plain model: 0 off their masks, which are bits until a step wants one as a tensor."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor, nn

from lotteryfl.common import packedmasks
from lotteryfl.common.packedmasks import Masks, PackedMask
from lotteryfl.common.pruning.modeltensors import ModelTensor, zero_pruned
from lotteryfl.common.pruning.prune import trainable_ticket
from lotteryfl.common.pruning.weightnorm import allow_zero_rows


class Pruned:
    """A weight that is a plain parameter, and 0 off its mask."""

    def __init__(self, tensor: Tensor, mask: Tensor | PackedMask) -> None:
        self.tensor = tensor
        self._mask = mask

    @cached_property
    def mask(self) -> Tensor:
        """Ones and zeros, as the weight lies in memory; made when it is first asked for."""
        if isinstance(self._mask, Tensor):
            return self._mask
        kept = packedmasks.unpack(self._mask, self.tensor.shape, self.tensor.device)
        return torch.empty_like(self.tensor, requires_grad=False).copy_(kept)

    def settle(self) -> None:
        """Set what is pruned to exactly 0 again; nothing has changed it where nobody has asked for the mask."""
        if "mask" in vars(self):
            self.zero()

    def zero(self) -> None:
        """Set what is pruned to exactly 0, whoever may have changed it."""
        zero_pruned(self.tensor, self.mask)


def pruned_by(items: Mapping[str, ModelTensor], masks: Masks) -> list[Pruned]:
    """Return the weights of a plain model that are 0 off these masks; the model then bears whole rows of zeros.

    Args:
        items: the model's tensors by plain name.
        masks: packed, by plain name.
    """
    for name in masks:
        for owner, local in items[name].owners:
            allow_zero_rows(owner, local)
    return [Pruned(items[name].tensor, packed) for name, packed in masks.items()]


@contextmanager
def plain_weights(model: nn.Module, pruned: Sequence[Pruned] | None) -> Iterator[Sequence[Pruned]]:
    """Have a model's weights plain, and what is pruned of them 0, also on leaving.

    Args:
        model: any module.
        pruned: its pruned weights, if it is plain; None: it may be in the pruned state, and is so again afterwards.
    """
    if pruned is None:
        with trainable_ticket(model) as found:
            yield [Pruned(tensor, mask) for tensor, mask in found]
        return
    try:
        yield pruned
    finally:
        for each in pruned:
            each.settle()
