"""An objective: what a model's outputs, its loss and its metrics are; without one it is classification."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from lotteryfl.common.errors import OutputError
from lotteryfl.common.text import kind
from lotteryfl.common.training.score import MAX_VALUES, Score, refused_name

if TYPE_CHECKING:
    from torchmetrics import Metric

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (N, classes), labels (N,)) → mean loss."""


class Objective:
    """What a task learns and is measured by; a task gives one of `lotteryfl.objectives`, or a class of its own.

    A batch is what the task's data sets give, put together, on the device: (inputs (N, ...), labels (N, ...)) of
    pairs, a dict of dicts, or what the task's `collate` returns. None of the methods may change the objective: it is
    one for all clients.
    """

    score: str = "loss"
    """What a run is judged by: a name among the metrics, or "loss"."""
    higher_is_better: bool | None = None
    """Which way the score is better; None: as the metric itself says, and a loss the lower."""
    mean_over_examples: bool = False
    """Whether the loss is a mean over the batch's examples, each one's own by itself: DP-SGD and gradients over all
    of a client's examples need that."""

    def outputs(self, model: nn.Module, batch: Any) -> Any:
        """Return what the model makes of a batch; here that of its first part."""
        return model(batch[0])

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        """Return the loss of a batch, of shape ()."""
        raise NotImplementedError(f"{type(self).__name__} has no loss(outputs, batch)")

    def metrics(self) -> "Mapping[str, Metric]":
        """Return what is measured beside the loss, by name: at most 32, lower case, each of one number.

        They are asked for before every evaluation, reset, and moved to the device.
        """
        return {}

    def update(self, metrics: "Mapping[str, Metric]", outputs: Any, batch: Any) -> None:
        """Let the metrics see a batch; here its outputs, and its second part as the truth."""
        for metric in metrics.values():
            metric.update(outputs, batch[1])


class Labelled(Objective):
    """One label for each example, a class from 0, by logits (N, classes): what it is without an objective."""

    score = "accuracy"
    higher_is_better: bool | None = True
    mean_over_examples = True

    def __init__(self, loss: Loss = F.cross_entropy) -> None:
        self.by_logits = loss
        """(logits, labels) → mean loss."""

    def outputs(self, model: nn.Module, batch: Any) -> Any:
        """Return the logits of a pair (inputs, labels)."""
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            form = _form(batch)
            raise OutputError(f"a batch is {form}: expected a pair (inputs, labels), or a task that gives an objective")
        return model(batch[0])

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        """Return the mean loss."""
        return self.by_logits(self.logits(outputs), self.labels(batch))

    def update(self, metrics: "Mapping[str, Metric]", outputs: Any, batch: Any) -> None:
        """Let the metrics see logits and labels."""
        for metric in metrics.values():
            metric.update(self.logits(outputs), self.labels(batch))

    def logits(self, outputs: Any) -> Tensor:
        """Return the logits (N, classes) among a model's outputs."""
        return outputs  # type: ignore[no-any-return] # whether they are any is asked where they are scored

    def labels(self, batch: Any) -> Tensor:
        """Return the labels (N,) of a batch."""
        return batch[1]  # type: ignore[no-any-return]


def chosen(objective: Objective | None, loss: Loss) -> Objective:
    """Return the objective, or classification by a loss where there is none.

    Raises:
        ValueError: both are given.
    """
    if objective is None:
        return Labelled(loss)
    if loss is not F.cross_entropy:
        raise ValueError("loss and objective are both given: expected one of them")
    return objective


def is_classification(objective: Objective) -> bool:
    """Tell whether it is measured as classification is: by the metrics that every run without an objective has."""
    return isinstance(objective, Labelled) and not objective.metrics()


def batch_loss(objective: Objective, model: Callable[..., Any], batch: Any) -> Tensor:
    """Return the loss of a batch, of shape (), by a module, compiled or not.

    Raises:
        OutputError: it is no such tensor.
    """
    return checked_loss(objective, objective.outputs(cast("nn.Module", model), batch), batch)


def checked_loss(objective: Objective, outputs: Any, batch: Any) -> Tensor:
    """Return the loss of outputs that are there.

    Raises:
        OutputError: it is not a tensor of shape ().
    """
    loss = objective.loss(outputs, batch)
    if not isinstance(loss, Tensor) or loss.dim():
        raise OutputError(f"{type(objective).__name__}.loss returned {_form(loss)}: expected a tensor of shape ()")
    return loss


def require_mean(objective: Objective, purpose: str) -> None:
    """Check that a batch's loss is the mean of its examples' own losses.

    Raises:
        OutputError: the objective does not say so.
    """
    if not objective.mean_over_examples:
        raise OutputError(
            f"{purpose}: needs a loss that is a mean over examples, and {type(objective).__name__} does not say that "
            "its is: set mean_over_examples = True where it is one"
        )


def score_of(objective: Objective | None) -> Score:
    """Return what a run of an objective is judged by.

    Raises:
        OutputError: what it says of its metrics cannot be.
    """
    if objective is None or is_classification(objective):
        return Score()
    what, metrics = type(objective).__name__, objective.metrics()
    if not isinstance(metrics, Mapping):
        raise OutputError(f"{what}.metrics() returned {_form(metrics)}: expected a dict of torchmetrics by name")
    if len(metrics) > MAX_VALUES:
        raise OutputError(f"{what}.metrics() returned {len(metrics)}: expected at most {MAX_VALUES}")
    for name, metric in metrics.items():
        if refusal := refused_name(name):
            raise OutputError(f"{what}.metrics(): {name!r}: {refusal}")
        if not all(callable(getattr(metric, method, None)) for method in ("update", "compute", "reset", "to")):
            raise OutputError(f"{what}.metrics(): {name} is {_form(metric)}: expected a torchmetrics.Metric")
    name = objective.score
    if name not in metrics and name != "loss":
        raise OutputError(f"{what}.score = {name!r}: expected one of its metrics: {', '.join([*metrics, 'loss'])}")
    direction = objective.higher_is_better
    if direction is None:
        direction = False if name == "loss" else getattr(metrics[name], "higher_is_better", None)
    if direction is None:
        raise OutputError(f"{what}.higher_is_better is missing: {name} does not say which way it is better")
    return Score(name, bool(direction), own=True)


def _form(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with the keys {', '.join(map(str, value))}"
    return f"a {kind(value)}"
