"""Runs as they are by now, for a tracker: it gets what it has not, and nothing is waited for."""

from collections.abc import Sequence
from pathlib import Path

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.server.results.trackers import TRACKERS
from lotteryfl.server.results.trackers.feed import Feed
from lotteryfl.server.results.trackers.runsend import RunsEnd
from lotteryfl.server.results.trackers.tracker import Target, without_secrets


def export(runs: Sequence[Path], kind: str, place: str) -> None:
    """Feed a tracker with runs, one after the other.

    Args:
        runs: their directories.
        kind: one of `TRACKERS`, and the name of the option.
        place: where to.

    Raises:
        LotteryFLError: the tracker is not installed, or does not take a run.
    """
    target = Target(TRACKERS[kind], place)
    target.require(f"--{kind}")
    for path in runs:
        end = RunsEnd(0.0)
        end.begin()
        try:
            Feed(path, target, end, _nothing).run()
        except LotteryFLError as error:
            raise LotteryFLError(f"--{kind} {without_secrets(place)}: {error}") from error


def _nothing(_line: str) -> None:
    """Say nothing: what is not possible is raised."""
