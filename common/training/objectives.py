"""Ready objectives, public as `lotteryfl.objectives`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from lotteryfl.common.errors import OutputError
from lotteryfl.common.training.objective import Labelled, Objective

if TYPE_CHECKING:
    from torchmetrics import Metric

__all__ = ["Binary", "Classification", "Dense", "HuggingFace", "LanguageModelling", "MultiLabel", "Regression"]

_THRESHOLDS = 200
"""Of curves: without any, torchmetrics would keep every prediction."""


class Classification(Labelled):
    """One class of several: logits (N, classes), labels (N,) from 0. Measured as a task without an objective is."""

    def __init__(self, *, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None) -> None:
        """Choose the cross-entropy.

        Args:
            label_smoothing: share of the truth that is spread evenly over all classes.
            class_weights: factor of an example's loss by its class; the mean stays one over the examples.
        """
        self._label_smoothing = label_smoothing
        self._class_weights = class_weights

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        """Return the mean cross-entropy."""
        logits, labels = self.logits(outputs), self.labels(batch)
        if self._class_weights is None:
            return F.cross_entropy(logits, labels, label_smoothing=self._label_smoothing)
        weights = torch.as_tensor(self._class_weights, dtype=logits.dtype, device=logits.device)
        each = F.cross_entropy(logits, labels, label_smoothing=self._label_smoothing, reduction="none")
        return (each * weights[labels]).mean()


class Binary(Objective):
    """Yes or no by one logit: outputs (N,) or (N, 1), labels (N,) or (N, 1) of 0 and 1."""

    score = "accuracy"
    higher_is_better = True
    mean_over_examples = True

    def __init__(self, *, positive_weight: float = 1.0) -> None:
        """Choose the loss.

        Args:
            positive_weight: factor of the loss of examples whose label is 1.
        """
        self._positive_weight = positive_weight

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        """Return the mean binary cross-entropy."""
        logits, truth = _alike(outputs, batch[1])
        weight = torch.as_tensor(self._positive_weight, dtype=logits.dtype, device=logits.device)
        return F.binary_cross_entropy_with_logits(logits, truth, pos_weight=weight)

    def metrics(self) -> "Mapping[str, Metric]":
        """Return accuracy, F1 and the area under the ROC curve at 200 thresholds."""
        from torchmetrics.classification import BinaryAccuracy, BinaryAUROC, BinaryF1Score

        return {"accuracy": BinaryAccuracy(), "f1": BinaryF1Score(), "auroc": BinaryAUROC(thresholds=_THRESHOLDS)}

    def update(self, metrics: "Mapping[str, Metric]", outputs: Any, batch: Any) -> None:
        """Let the metrics see probabilities: logits between 0 and 1 would be taken for such."""
        logits, truth = _alike(outputs, batch[1])
        for metric in metrics.values():
            metric.update(logits.sigmoid().flatten(), truth.long().flatten())


class MultiLabel(Objective):
    """Any of several labels at once: outputs (N, labels), truth (N, labels) of 0 and 1."""

    score = "map"
    higher_is_better = True
    mean_over_examples = True

    def __init__(self, labels: int) -> None:
        """Say how many.

        Args:
            labels: how many there are, at least 2.
        """
        self._labels = labels

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        """Return the mean binary cross-entropy over examples and labels."""
        return F.binary_cross_entropy_with_logits(*_alike(outputs, batch[1]))

    def metrics(self) -> "Mapping[str, Metric]":
        """Return macro F1 and the mean over labels of the average precision at 200 thresholds."""
        from torchmetrics.classification import MultilabelAveragePrecision, MultilabelF1Score

        precision = MultilabelAveragePrecision(self._labels, thresholds=_THRESHOLDS)
        return {"map": precision, "f1": MultilabelF1Score(self._labels)}

    def update(self, metrics: "Mapping[str, Metric]", outputs: Any, batch: Any) -> None:
        """Let the metrics see probabilities."""
        logits, truth = _alike(outputs, batch[1])
        for metric in metrics.values():
            metric.update(logits.sigmoid(), truth.long())


class Regression(Objective):
    """Numbers: outputs and labels (N,), (N, 1) or (N, ...) alike."""

    score = "r2"
    higher_is_better = True
    mean_over_examples = True

    def __init__(self, loss: Literal["mse", "mae", "huber"] = "mse", *, delta: float = 1.0) -> None:
        """Choose the loss.

        Args:
            loss: mean squared error, mean absolute error, or Huber's, which is square near 0 and straight beyond.
            delta: where Huber's begins to be straight.
        """
        if loss not in ("mse", "mae", "huber"):
            raise ValueError(f"Regression: loss = {loss!r}: expected 'mse', 'mae' or 'huber'")
        self._loss = loss
        self._delta = delta

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        """Return the mean error over examples and values."""
        predicted, truth = _alike(outputs, batch[1])
        if self._loss == "mse":
            return F.mse_loss(predicted, truth)
        if self._loss == "mae":
            return F.l1_loss(predicted, truth)
        return F.huber_loss(predicted, truth, delta=self._delta)

    def metrics(self) -> "Mapping[str, Metric]":
        """Return R², 0 where there are fewer than two examples, mean absolute error, and root mean squared error."""
        from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score

        class R2(R2Score):
            def compute(self) -> Tensor:
                return super().compute() if self.total > 1 else torch.zeros((), device=self.total.device)

        return {"r2": R2(), "mae": MeanAbsoluteError(), "rmse": MeanSquaredError(squared=False)}

    def update(self, metrics: "Mapping[str, Metric]", outputs: Any, batch: Any) -> None:
        """Let the metrics see predictions and truth, of several values in columns."""
        predicted, truth = _alike(outputs, batch[1])
        for metric in metrics.values():
            metric.update(predicted.reshape(len(truth), -1).squeeze(1), truth.reshape(len(truth), -1).squeeze(1))


class Dense(Objective):
    """A class for every position, as in segmentation: outputs (N, classes, ...), labels (N, ...) from 0."""

    score = "iou"
    higher_is_better = True
    mean_over_examples = True

    def __init__(self, classes: int, *, ignore_index: int = -100) -> None:
        """Say what there is.

        Args:
            classes: how many, at least 2.
            ignore_index: label of positions that do not count.
        """
        self._classes = classes
        self._ignore_index = ignore_index

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        """Return the mean over examples of each one's mean cross-entropy over the positions that count."""
        return _mean_by_example(outputs.movedim(1, -1), batch[1], self._ignore_index)

    def metrics(self) -> "Mapping[str, Metric]":
        """Return the mean intersection over union of the classes, and the share of positions that are right."""
        from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

        ignored = self._ignore_index
        pixels = MulticlassAccuracy(self._classes, average="micro", ignore_index=ignored)
        return {"iou": MulticlassJaccardIndex(self._classes, ignore_index=ignored), "pixel_accuracy": pixels}


class LanguageModelling(Objective):
    """The next token: outputs (N, T, vocabulary), labels (N, T)."""

    score = "perplexity"
    higher_is_better = False
    mean_over_examples = True

    def __init__(self, *, ignore_index: int = -100, shift: bool = False) -> None:
        """Say how the labels lie.

        Args:
            ignore_index: label of positions that do not count.
            shift: the labels are the tokens themselves, and outputs at t are held to those at t + 1.
        """
        self._ignore_index = ignore_index
        self._shift = shift

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        """Return the mean over examples of each one's mean cross-entropy over the positions that count."""
        return _mean_by_example(*self._aligned(outputs, batch[1]), self._ignore_index)

    def metrics(self) -> "Mapping[str, Metric]":
        """Return the perplexity over all positions that count."""
        from torchmetrics.text import Perplexity

        return {"perplexity": Perplexity(ignore_index=self._ignore_index)}

    def update(self, metrics: "Mapping[str, Metric]", outputs: Any, batch: Any) -> None:
        """Let the metrics see outputs and labels, position by position."""
        for metric in metrics.values():
            metric.update(*self._aligned(outputs, batch[1]))

    def _aligned(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return (outputs[:, :-1], labels[:, 1:]) if self._shift else (outputs, labels)


class HuggingFace(Labelled):
    """A model of Hugging Face's form: `model(**batch)` returns its own loss, and logits.

    The loss counts as a mean over examples, as a classifier's is; not where another objective measures, as a language
    model's is one over tokens.
    """

    def __init__(self, measured: Objective | None = None, *, labels: str = "labels") -> None:
        """Say how it is measured.

        Args:
            measured: whose metrics and score to take, of the logits and labels; None: those of classification.
            labels: key of the labels in a batch.
        """
        self._measured = measured
        self._labels = labels
        if measured is not None:
            self.score, self.higher_is_better = measured.score, measured.higher_is_better
            self.mean_over_examples = measured.mean_over_examples and not isinstance(measured, LanguageModelling)

    @property
    def labels_key(self) -> str:
        """Of the labels in a batch: who only asks the model for its outputs has none."""
        return self._labels

    def outputs(self, model: nn.Module, batch: Any) -> Any:
        """Return the model's own outputs, with loss and logits."""
        if not isinstance(batch, Mapping):
            raise OutputError(f"HuggingFace: a batch is a {type(batch).__name__}: expected a dict, for model(**batch)")
        return model(**batch)

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        """Return the model's own loss."""
        loss = _field(outputs, "loss")
        if loss is None:
            keys = ", ".join(map(str, batch))
            raise OutputError(f"HuggingFace: the model returned no loss for a batch with the keys {keys}")
        return loss  # type: ignore[no-any-return] # whether it is one is asked where it is used

    def metrics(self) -> "Mapping[str, Metric]":
        """Return those of the objective that measures."""
        return {} if self._measured is None else self._measured.metrics()

    def update(self, metrics: "Mapping[str, Metric]", outputs: Any, batch: Any) -> None:
        """Let the metrics see logits and labels."""
        if self._measured is not None:
            self._measured.update(metrics, self.logits(outputs), (batch, self.labels(batch)))

    def logits(self, outputs: Any) -> Tensor:
        """Return the model's logits."""
        logits = _field(outputs, "logits")
        if logits is None:
            raise OutputError(f"HuggingFace: the model returned {type(outputs).__name__} without logits")
        return logits  # type: ignore[no-any-return]

    def labels(self, batch: Any) -> Tensor:
        """Return the labels of a batch."""
        if self._labels not in batch:
            raise OutputError(
                f"HuggingFace: {self._labels!r} is not among a batch's keys: {', '.join(map(str, batch))}"
            )
        return batch[self._labels]  # type: ignore[no-any-return]


def _field(outputs: Any, name: str) -> Any:
    return outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)


def _alike(outputs: Any, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs and truth of one shape and dtype; never stretched over one another, as (N, 1) and (N,) would be.

    Raises:
        OutputError: their shapes differ by more than dimensions of 1.
    """
    if not isinstance(outputs, Tensor):
        raise OutputError(f"the model's output has type {type(outputs).__name__}: expected a tensor as the labels are")
    if _long(outputs) != _long(truth):
        shapes = f"the model's output has shape {tuple(outputs.shape)}, the labels {tuple(truth.shape)}"
        raise OutputError(f"{shapes}: expected the same")
    return outputs.reshape(truth.shape), truth.to(outputs.dtype)


def _long(tensor: Tensor) -> tuple[int, ...]:
    return (*tensor.shape[:1], *(size for size in tensor.shape[1:] if size != 1))


def _mean_by_example(logits: Tensor, labels: Tensor, ignored: int) -> Tensor:
    """Return the mean cross-entropy of logits (N, ..., classes), first over an example's positions, then over examples.

    Raises:
        OutputError: there are not logits for each label.
    """
    if logits.shape[:-1] != labels.shape:
        form = f"logits for positions of shape {tuple(logits.shape[:-1])}"
        raise OutputError(f"the model's output has {form}, the labels have shape {tuple(labels.shape)}")
    flat = logits.reshape(-1, logits.shape[-1])
    losses = F.cross_entropy(flat, labels.reshape(-1), ignore_index=ignored, reduction="none")
    counted = (labels != ignored).reshape(len(labels), -1).sum(dim=1).clamp(min=1)
    return (losses.reshape(len(labels), -1).sum(dim=1) / counted).mean()
