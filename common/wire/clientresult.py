"""What a client's result says beside its tensors, for whoever decides by it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Evaluated:
    """What a model was worth on some of a client's data."""

    examples: int
    score: float
    """What the run is judged by."""
    loss: float
    accuracy: float | None
    """None where the task has an objective of its own, which names its score."""


@dataclass(frozen=True)
class ResultMetrics:
    """What was measured for one result."""

    downloaded: Evaluated
    """The model as downloaded, on the client's test data."""
    personalised: Evaluated
    """The model after the work, on the client's test data."""
    validation: Evaluated | None
    """What its plan's pruning judged, on the client's validation data; None where the plan has nothing to judge."""
    train_loss: float | None
    """Mean over the last epoch; None where privacy keeps it back."""


@dataclass(frozen=True)
class ClientResult:
    """One result that counts."""

    round: int
    client: int
    examples: int
    """Training examples."""
    density: float
    """Kept share of the prunable weights after the work."""
    metrics: ResultMetrics
