"""The gradient of the loss over all of a client's examples, by the weights as they are."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from lotteryfl.common.pruning.modeltensors import model_tensors
from lotteryfl.common.pruning.prune import trainable_ticket
from lotteryfl.common.training.given import Data
from lotteryfl.common.training.loop import EVALUATION_BATCH, Examples, Loss, mode, require_gradients


def mean_gradients(
    model: nn.Module,
    data: Data,
    *,
    batch_size: int = EVALUATION_BATCH,
    device: torch.device | str = "cpu",
    loss: Loss = F.cross_entropy,
) -> dict[str, Tensor]:
    """Return the gradient of the mean loss by every parameter, pruned weights included.

    The model is in eval mode meanwhile, and comes back as it was: no dropout, no running statistics changed.

    Args:
        model: from inputs to logits; moved to `device`.
        data: see `common.training.given.Data`.
        batch_size: examples at a time.
        device: where to compute.
        loss: see `common.training.loop.Loss`.

    Returns:
        Plain name → gradient, of the parameter's shape and dtype. Parameters that the loss does not depend on
        are left out.

    Raises:
        TypeError: the data set has no length.
        ValueError: no data, inputs and labels of unequal lengths, or gradients are off.
    """
    require_gradients(model)
    device = torch.device(device)
    examples = Examples(data, device)
    model.to(device)
    with mode(model, training=False), trainable_ticket(model), _own_gradients(model):
        for inputs, labels in examples.batches(torch.arange(len(examples)), batch_size):
            share = len(labels) / len(examples)
            (loss(model(inputs), labels) * share).backward()  # type: ignore[no-untyped-call]
        return {item.name: item.tensor.grad.clone() for item in model_tensors(model) if item.tensor.grad is not None}


@contextmanager
def _own_gradients(model: nn.Module) -> Iterator[None]:
    """Start from no gradients; leave none."""
    model.zero_grad()
    try:
        yield
    finally:
        model.zero_grad()
