"""What a client says of its work: which numbers can be true, and what they are judged by."""

import math
from typing import Literal

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.text import quoted
from lotteryfl.common.training.score import MAX_VALUES, Score, refused_name
from lotteryfl.protos import lotteryfl_pb2 as pb

MAX_TEST_EXAMPLES = 2**40
"""Examples of an evaluation beyond this are not believed."""

_PHASES: tuple[Literal["downloaded", "validation", "personalised", "global_test", "shared_model"], ...] = (
    "downloaded",
    "validation",
    "personalised",
    "global_test",
    "shared_model",
)
_MOST = {"examples": MAX_TEST_EXAMPLES, "loss": math.inf}
"""Upper bounds of an evaluation's numbers; all others are shares, of at most 1."""


def check_metrics(metrics: pb.ClientMetrics, *, globally: bool, score: Score, shared: bool = False) -> None:
    """Check that the evaluations are there, and that all numbers are finite, in range and go together.

    Args:
        metrics: of one result.
        globally: whether the model was to be measured on the task's global test data too.
        score: what the run is judged by.
        shared: whether the shared model itself was to be measured on it.

    Raises:
        PayloadError: naming the number.
    """
    for phase in ("downloaded", "personalised"):
        if not metrics.HasField(phase):
            raise PayloadError(f"metrics.{phase}: missing")
    if metrics.HasField("global_test") != globally:
        raise PayloadError(f"metrics.global_test: {'missing' if globally else 'was not asked for in this round'}")
    if metrics.HasField("shared_model") != shared:
        raise PayloadError(f"metrics.shared_model: {'missing' if shared else 'was not asked for in its plan'}")
    least_loss = -math.inf if score.own else 0.0
    _check_number("train_loss", metrics.train_loss, math.inf, least_loss)
    _check_number("seconds", metrics.seconds, math.inf)
    _check_number("density", metrics.density, 1)
    for phase in (phase for phase in _PHASES if metrics.HasField(phase)):
        evaluation: pb.Evaluation = getattr(metrics, phase)
        for field, value in evaluation.ListFields():
            if field.name != "values":
                least = least_loss if field.name == "loss" else 0.0
                _check_number(f"{phase}.{field.name}", value, _MOST.get(field.name, 1), least)
        _check_values(phase, evaluation, score)
        if evaluation.values.keys() != metrics.downloaded.values.keys():
            names, expected = sorted(evaluation.values), sorted(metrics.downloaded.values)
            raise PayloadError(f"metrics.{phase}.values: {quoted(names)}, expected {quoted(expected)} as downloaded")
    before, after = metrics.downloaded.examples, metrics.personalised.examples
    if before != after:
        raise PayloadError(f"metrics.personalised.examples = {after}: expected {before}, as before the training")


def score_of(evaluation: pb.Evaluation, score: Score) -> float:
    """Return what a checked evaluation is judged by."""
    if not score.own:
        return evaluation.accuracy
    return evaluation.loss if score.name == "loss" else evaluation.values[score.name]


def is_good_enough(prune: pb.Plan.Prune, evaluation: pb.Evaluation, score: Score) -> bool:
    """Tell whether a model may be pruned, by its evaluation on what its plan judges it by."""
    if not score.own:
        return evaluation.accuracy >= prune.accuracy_threshold
    if not prune.HasField("score_threshold"):
        return True
    return score.rank(score_of(evaluation, score)) >= score.rank(prune.score_threshold)


def _check_values(phase: str, evaluation: pb.Evaluation, score: Score) -> None:
    values = evaluation.values
    if not score.own and values:
        raise PayloadError(f"metrics.{phase}.values: {len(values)}, expected none: it is classification")
    if len(values) > MAX_VALUES:
        raise PayloadError(f"metrics.{phase}.values: {len(values)}, expected at most {MAX_VALUES}")
    for name, value in values.items():
        if refusal := refused_name(name):
            raise PayloadError(f"metrics.{phase}.values: {quoted(name)}: {refusal}")
        if not math.isfinite(value):
            raise PayloadError(f"metrics.{phase}.{name} = {value}: expected a finite number")
    if score.own and score.name != "loss" and score.name not in values:
        raise PayloadError(f"metrics.{phase}.values: {score.name!r}, the run's score, is missing")


def _check_number(name: str, value: float, most: float, least: float = 0.0) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        expected = "a finite number" if least < 0 else f"a finite number from 0 to {most}"
        raise PayloadError(f"metrics.{name} = {value}: expected {expected}")
