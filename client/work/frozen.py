"""What is frozen on a worker: it came with θ_0, is in every model that work is done with, and stays as it is."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.pruning.modeltensors import model_tensors
from lotteryfl.common.wire.table import TensorTable


class Frozen:
    """The frozen tensors of a model."""

    def __init__(self, table: TensorTable, initial: Mapping[str, Tensor]) -> None:
        """Take them from θ_0.

        Args:
            table: of the whole model.
            initial: θ_0 by plain name.
        """
        self._values = {spec.name: initial[spec.name] for spec in table.frozen}
        self._fixed = {spec.name for spec in table.frozen if spec.fixed}

    def put_into(self, model: nn.Module) -> None:
        """Give them to a model of which there will be copies: parameters in θ_0's own memory, so that it is there once.

        What is fixed trains no more. Not buffers: what copy.deepcopy makes of one is a copy of all the memory that it
        is a part of.
        """
        for item in model_tensors(model):
            if (value := self._values.get(item.name)) is None:
                continue
            if item.is_parameter:
                item.tensor.data = value
                if item.name in self._fixed:
                    item.tensor.requires_grad_(False)
            else:
                item.tensor.copy_(value)

    def require_unchanged(self, tensors: Mapping[str, Tensor]) -> None:
        """Check what work has left of them.

        Args:
            tensors: of the model, by plain name.

        Raises:
            PayloadError: one is not what it was, bit for bit.
        """
        for name, value in self._values.items():
            if not _same_bits(tensors[name], value):
                raise PayloadError(
                    f"{name}: is frozen, and has changed: expected only parameters that require a gradient to "
                    "change, and buffers that the task does not call frozen"
                )


def _same_bits(tensor: Tensor, value: Tensor) -> bool:
    """Compare where the work was done; by bytes, as NaN is not equal to itself."""
    mine, its = (each.contiguous().view(-1).view(torch.uint8) for each in (tensor, value.to(tensor.device)))
    return torch.equal(mine, its)
