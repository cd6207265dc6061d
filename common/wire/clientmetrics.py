"""What a client says of its work: which numbers can be true."""

import math

from lotteryfl.common.errors import PayloadError
from lotteryfl.protos import lotteryfl_pb2 as pb

MAX_TEST_EXAMPLES = 2**40
"""Examples of an evaluation beyond this are not believed."""

_MOST = {"examples": MAX_TEST_EXAMPLES, "loss": math.inf}
"""Upper bounds of an evaluation's numbers; all others are shares, of at most 1."""


def check_metrics(metrics: pb.ClientMetrics, *, globally: bool) -> None:
    """Check that the evaluations are there, and that all numbers are finite, in range and go together.

    Args:
        metrics: of one result.
        globally: whether the model was to be measured on the task's global test data too.

    Raises:
        PayloadError: naming the number.
    """
    for phase in ("downloaded", "personalised"):
        if not metrics.HasField(phase):
            raise PayloadError(f"metrics.{phase}: missing")
    if metrics.HasField("global_test") != globally:
        raise PayloadError(f"metrics.global_test: {'missing' if globally else 'was not asked for in this round'}")
    for name in ("train_loss", "seconds"):
        _check_number(name, getattr(metrics, name), math.inf)
    _check_number("density", metrics.density, 1)
    for phase in ("validation", "downloaded", "personalised", "global_test"):
        for field, value in getattr(metrics, phase).ListFields():
            _check_number(f"{phase}.{field.name}", value, _MOST.get(field.name, 1))
    before, after = metrics.downloaded.examples, metrics.personalised.examples
    if before != after:
        raise PayloadError(f"metrics.personalised.examples = {after}: expected {before}, as before the training")


def _check_number(name: str, value: float, most: float) -> None:
    if not (math.isfinite(value) and 0 <= value <= most):
        raise PayloadError(f"metrics.{name} = {value}: expected a finite number from 0 to {most}")
