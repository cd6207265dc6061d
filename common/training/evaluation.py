"""Evaluate a model by an objective."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, overload

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from lotteryfl.common.errors import OutputError
from lotteryfl.common.training.examples import Examples
from lotteryfl.common.training.given import Data
from lotteryfl.common.training.measured import Evaluated, Meter
from lotteryfl.common.training.metrics import Metrics, classification_metrics
from lotteryfl.common.training.objective import Labelled, Loss, Objective, checked_loss, chosen, is_classification
from lotteryfl.common.transfer import to_host

EVALUATION_BATCH = 256
"""Examples that an evaluation takes at a time."""


@overload
def evaluate(
    model: nn.Module,
    data: Data,
    *,
    batch_size: int = ...,
    device: torch.device | str = ...,
    loss: Loss = ...,
    objective: None = ...,
) -> Metrics: ...


@overload
def evaluate(
    model: nn.Module,
    data: Data,
    *,
    batch_size: int = ...,
    device: torch.device | str = ...,
    loss: Loss = ...,
    objective: Objective | None,
) -> Metrics | Evaluated: ...


def evaluate(
    model: nn.Module,
    data: Data,
    *,
    batch_size: int = EVALUATION_BATCH,
    device: torch.device | str = "cpu",
    loss: Loss = F.cross_entropy,
    objective: Objective | None = None,
) -> Metrics | Evaluated:
    """Score a model, in eval mode and without gradients; the modes found are restored.

    Args:
        model: what the objective takes, without one from inputs to logits, one for each class; moved to `device`.
        data: see `common.training.given.Data`.
        batch_size: examples at a time.
        device: where to evaluate.
        loss: of a classifier, see `Loss`.
        objective: what is measured in place of classification.

    Returns:
        What classification is measured by; of an objective with metrics of its own, those.

    Raises:
        TypeError: the data set has no length, or is none.
        ValueError: no data, inputs and labels of unequal lengths, batch_size is not positive, or, as an `OutputError`,
            what the model returns has no column for each class, or a metric is not a finite number.
    """
    objective, device = chosen(objective, loss), torch.device(device)
    examples = Examples(data, device, objective)
    model.to(device)
    with mode(model, training=False), torch.no_grad():
        if isinstance(objective, Labelled) and is_classification(objective):
            return _classified(model, examples, objective, batch_size)
        meter, losses, sizes = Meter(objective, device), [], []
        for batch, size in examples.in_order(batch_size):
            outputs = objective.outputs(model, batch)
            losses.append(checked_loss(objective, outputs, batch))
            sizes.append(size)
            meter.see(outputs, batch)
        return Evaluated(sum(sizes), weighted_mean(losses, sizes), meter.values())


def _classified(model: nn.Module, examples: Examples, objective: Labelled, batch_size: int) -> Metrics:
    losses, predictions, truth = [], [], []
    for batch, _ in examples.in_order(batch_size):
        outputs = objective.outputs(model, batch)
        predictions.append(predicted_classes(objective.logits(outputs)))
        losses.append(checked_loss(objective, outputs, batch))
        truth.append(objective.labels(batch))
    mean_loss = weighted_mean(losses, [len(labels) for labels in truth])
    found = to_host({"predicted": torch.cat(predictions), "true": torch.cat(truth)})
    return classification_metrics(found["predicted"], found["true"], mean_loss)


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Set train or eval mode; restore every module's own on leaving."""
    found = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was_training in found:
            module.training = was_training


def predicted_classes(logits: Any) -> Tensor:
    """Return the class that is predicted for each example.

    Raises:
        OutputError: they are no logits, with a column for each class.
    """
    if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[1] < 2:
        form = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"type {type(logits).__name__}"
        raise OutputError(
            f"the model's output has {form}: expected logits of shape (examples, classes), a column for each class: "
            "two of them where there are two"
        )
    return logits.argmax(dim=1)


def weighted_mean(values: Sequence[Tensor], weights: Sequence[int]) -> float:
    """Fetch all values from the device at once and average them."""
    fetched: list[float] = torch.stack(list(values)).tolist()
    return sum(value * weight for value, weight in zip(fetched, weights, strict=True)) / sum(weights)
