"""Classification metrics from counts per class, as scikit-learn defines them (with zero_division=0)."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Metrics:
    """What a classifier scores on a data set; all but `examples` and `loss` in 0 ... 1."""

    examples: int
    loss: float
    """Mean over the examples."""
    accuracy: float
    balanced_accuracy: float
    """Mean recall over the classes that occur in the labels."""
    micro_precision: float
    micro_recall: float
    macro_precision: float
    """Mean over the classes that occur in the labels or the predictions."""
    macro_recall: float


def classification_metrics(predictions: Tensor, labels: Tensor, loss: float) -> Metrics:
    """Compute all metrics of one-label classification.

    Args:
        predictions: predicted class of each example, int64, shape (N,), N > 0.
        labels: true class of each example, likewise.
        loss: mean loss, passed through.
    """
    classes = int(torch.maximum(predictions.max(), labels.max())) + 1
    hits = torch.bincount(labels[predictions == labels], minlength=classes).double()
    support = torch.bincount(labels, minlength=classes).double()
    predicted = torch.bincount(predictions, minlength=classes).double()
    recall = hits / support.clamp(min=1)
    precision = hits / predicted.clamp(min=1)
    occurs = (support + predicted) > 0
    accuracy = (hits.sum() / support.sum()).item()
    return Metrics(
        examples=labels.numel(),
        loss=loss,
        accuracy=accuracy,
        balanced_accuracy=recall[support > 0].mean().item(),
        micro_precision=accuracy,  # with one label for each example every false positive is a false negative
        micro_recall=accuracy,
        macro_precision=precision[occurs].mean().item(),
        macro_recall=recall[occurs].mean().item(),
    )
