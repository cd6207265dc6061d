"""The front of a race: settings of which none is both better and cheaper."""

from collections.abc import Sequence
from typing import NamedTuple

from lotteryfl.common.training.score import Score


class Point(NamedTuple):
    """A setting in a picture."""

    key: str
    """Of its row in the table."""
    label: str
    megabytes: float
    score: float
    std: float
    """Of the score, over seeds."""


def front(points: Sequence[Point], score: Score) -> list[Point]:
    """Return the points that no other is as good as for as few bytes, the cheapest first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda each: (each.megabytes, -score.rank(each.score), each.key)):
        if not found or score.rank(point.score) > score.rank(found[-1].score):
            found.append(point)
    return found
