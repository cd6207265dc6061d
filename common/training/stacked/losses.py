"""The loss of every example of every row by itself, so that each can be given its weight."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor
from torch.func import vmap

from lotteryfl.common.training.objective import Labelled, Objective, checked_loss
from lotteryfl.common.training.structure import mapped


def example_losses(objective: Objective, outputs: Any, batch: Any) -> Tensor:
    """Return the loss (rows, examples) of outputs and batches with both dimensions.

    Args:
        objective: with a loss that is a mean over examples.
        outputs: of all rows' models.
        batch: what they were made of.

    Raises:
        OutputError: the loss of an example is none.
    """
    smoothing = _smoothing(objective)
    if smoothing is None:
        return vmap(vmap(partial(_loss_of_one, objective)))(outputs, batch)
    losses = F.cross_entropy(outputs.flatten(0, 1), batch[1].flatten(0, 1), reduction="none", label_smoothing=smoothing)
    return losses.view(outputs.shape[:2])


def _smoothing(objective: Objective) -> float | None:
    """Return how much labels are smoothed where it is the cross-entropy of classes; None: it is not."""
    if type(objective) is not Labelled:
        return None
    loss = objective.by_logits
    if loss is F.cross_entropy:
        return 0.0
    if isinstance(loss, partial) and loss.func is F.cross_entropy and not loss.args:
        return loss.keywords["label_smoothing"] if loss.keywords.keys() == {"label_smoothing"} else None
    return None


def _loss_of_one(objective: Objective, outputs: Any, batch: Any) -> Tensor:
    alone = partial(mapped, partial(torch.unsqueeze, dim=0))
    return checked_loss(objective, alone(outputs), alone(batch))
