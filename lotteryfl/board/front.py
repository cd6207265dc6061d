"""The front of a race: settings of which none is both better and cheaper."""

from collections.abc import Sequence
from typing import NamedTuple

from lotteryfl.common.training.score import Score
from lotteryfl.records.record import Record
from lotteryfl.server.results.spread import spread


class Point(NamedTuple):
    """A setting in a picture."""

    key: str
    """Of its row in the table."""
    label: str
    megabytes: float
    score: float
    std: float
    """Of the score, over seeds."""


def point_of(label: str, runs: Sequence[Record], by: str) -> Point | None:
    """Return the place of a strategy's runs, means over seeds; None: they have no such score.

    Args:
        label: what the point is called.
        runs: one for each seed.
        by: the name of one of a record's scores.
    """
    scores = [value for run in runs if (value := getattr(run.scores, by)) is not None]
    if not scores:
        return None
    score = spread(scores)
    return Point(label, label, spread([run.megabytes for run in runs]).mean, score.mean, score.std)


def front(points: Sequence[Point], score: Score) -> list[Point]:
    """Return the points that no other is as good as for as few bytes, the cheapest first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda each: (each.megabytes, -score.rank(each.score), each.key)):
        if not found or score.rank(point.score) > score.rank(found[-1].score):
            found.append(point)
    return found
