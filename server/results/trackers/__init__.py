"""Trackers of experiments that people use, fed with a run while it goes on or when it is over."""

from collections.abc import Mapping

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.text import quoted
from lotteryfl.server.results.trackers.mlflow import MLflow
from lotteryfl.server.results.trackers.tensorboard import TensorBoard
from lotteryfl.server.results.trackers.tracker import Target, Tracker
from lotteryfl.server.results.trackers.trackio import Trackio
from lotteryfl.server.results.trackers.wandb import WeightsAndBiases

TRACKERS: Mapping[str, type[Tracker]] = {
    tracker.kind: tracker for tracker in (TensorBoard, MLflow, WeightsAndBiases, Trackio)
}
"""Each by what the user calls it."""


def parse_target(text: str, option: str) -> Target:
    """Return what `KIND` or `KIND=PLACE` names.

    Args:
        text: what the user wrote.
        option: after which.

    Raises:
        LotteryFLError: there is no such tracker, or its library is not installed.
    """
    kind, _, place = text.partition("=")
    if kind not in TRACKERS:
        raise LotteryFLError(f"{option} {quoted(text)}: expected one of {', '.join(TRACKERS)}, perhaps with =PLACE")
    target = Target(TRACKERS[kind], place)
    target.require(f"{option} {kind}")
    return target
