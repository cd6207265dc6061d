"""The gradient of the loss over all of a client's examples, by the weights as they are."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lotteryfl.common.pruning.modeltensors import model_tensors
from lotteryfl.common.pruning.prune import trainable_ticket
from lotteryfl.common.training.evaluation import EVALUATION_BATCH, mode
from lotteryfl.common.training.examples import Examples
from lotteryfl.common.training.given import Data
from lotteryfl.common.training.loop import require_gradients
from lotteryfl.common.training.objective import Labelled, Objective, batch_loss, require_mean


def mean_gradients(
    model: nn.Module,
    data: Data,
    *,
    batch_size: int = EVALUATION_BATCH,
    device: torch.device | str = "cpu",
    objective: Objective | None = None,
) -> dict[str, Tensor]:
    """Return the gradient of the mean loss by every parameter, pruned weights included.

    The model is in eval mode meanwhile, and comes back as it was: no dropout, no running statistics changed.

    Args:
        model: what the objective takes, without one from inputs to logits; moved to `device`.
        data: see `common.training.given.Data`.
        batch_size: examples at a time.
        device: where to compute.
        objective: its loss, which must be a mean over examples; None: cross-entropy.

    Returns:
        Plain name → gradient, of the parameter's shape and dtype. Parameters that the loss does not depend on
        are left out.

    Raises:
        TypeError: the data set has no length.
        ValueError: no data, inputs and labels of unequal lengths, gradients are off, or, as an `OutputError`, the
            objective's loss is no mean over examples.
    """
    objective = objective or Labelled()
    require_mean(objective, "the gradient over all of a client's examples")
    require_gradients(model)
    device = torch.device(device)
    examples = Examples(data, device, objective)
    model.to(device)
    with mode(model, training=False), trainable_ticket(model), _own_gradients(model):
        seen, total = 0, 1 if examples.is_stream else len(examples)
        for batch, size in examples.in_order(batch_size):
            (batch_loss(objective, model, batch) * (size / total)).backward()  # type: ignore[no-untyped-call]
            seen += size
        found = {item.name: item.tensor.grad.clone() for item in model_tensors(model) if item.tensor.grad is not None}
    if examples.is_stream:  # how many there are is known by now
        torch._foreach_div_(list(found.values()), seen)
    return found


@contextmanager
def _own_gradients(model: nn.Module) -> Iterator[None]:
    """Start from no gradients; leave none."""
    model.zero_grad()
    try:
        yield
    finally:
        model.zero_grad()
