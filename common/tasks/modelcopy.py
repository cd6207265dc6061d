"""Copies of a task's model, one for every piece of work."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lotteryfl.common.errors import TaskError
from lotteryfl.common.owncode.usercode import first_line
from lotteryfl.common.pruning.parameters import copy_model


def own_copy(
    model: nn.Module, task: str, unset: Iterable[Tensor] = (), device: torch.device | None = None
) -> nn.Module:
    """Return a copy of a model that has nothing in common with it, whatever it keeps beside its tensors.

    Args:
        model: as the task built it.
        task: the task's name.
        unset: parameters whose values are set next; they are not copied.
        device: where the copy lives; None: where the model does.

    Raises:
        TaskError: it cannot be copied, or a copy has tensors in common with it.
    """
    try:
        copied = copy_model(model, device, unset=unset)
    except Exception as error:
        raise TaskError(
            f"task {task}: its model cannot be copied by copy.deepcopy, and every assignment needs a copy of its own: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    mine = {tensor.data_ptr() for tensor in (*copied.parameters(), *copied.buffers()) if tensor.numel()}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.numel() and tensor.data_ptr() in mine:
            raise TaskError(f"task {task}: a copy of its model by copy.deepcopy shares {name} with it")
    return copied
