"""A run's rounds as a record tells them: no more than so many, and exact where they say what a score has cost."""

from collections.abc import Sequence

import numpy as np

from lotteryfl.common.training.score import Score
from lotteryfl.records.record import MOST_POINTS, Rounds
from lotteryfl.server.results.reporting.data import RunData

_DIGITS = 6
"""Of a score: as exact as 100,000 test examples can tell."""


def brief(value: float) -> float:
    """Return a score with as many digits as a record has."""
    return float(f"{value:.{_DIGITS}g}")


def rounds_of(run: RunData, most: int = MOST_POINTS) -> Rounds:
    """Return the rounds of a run.

    Args:
        run: with at least one committed round.
        most: rounds that are told.
    """
    rounds = run.rounds
    sent = np.cumsum(run.down + rounds.up)
    kept = chosen((rounds.personalised.tolist(), rounds.downloaded.tolist()), run.score, most)
    return Rounds(
        round=tuple(int(rounds.number[at]) for at in kept),
        sent=tuple(int(sent[at]) for at in kept),
        downloaded=tuple(brief(rounds.downloaded[at]) for at in kept),
        personalised=tuple(brief(rounds.personalised[at]) for at in kept),
        density=tuple(brief(rounds.density[at]) for at in kept),
    )


def chosen(curves: Sequence[Sequence[float]], score: Score, most: int) -> list[int]:
    """Return the places of the points to keep of curves over the same rounds, in order.

    Where some must go, those stay that are better than all before them in one of the curves: what it took to reach a
    score is then as exact as with all of them. The first, the last, and evenly spaced ones fill the rest.

    Args:
        curves: scores by round, each of one length.
        score: which way is better.
        most: points to keep, 3 or more.
    """
    length = len(curves[0])
    if length <= most:
        return list(range(length))
    better = sorted({at for curve in curves for at in _better_than_before(curve, score)})
    kept = {0, length - 1, *(better[int(at)] for at in np.linspace(0, len(better) - 1, min(len(better), most - 2)))}
    others = [at for at in range(length) if at not in kept]
    fill = min(most - len(kept), len(others))
    return sorted(kept | {others[int(at)] for at in np.linspace(0, len(others) - 1, fill)})


def _better_than_before(curve: Sequence[float], score: Score) -> list[int]:
    ranks = np.array([score.rank(value) for value in curve])
    best_before = np.maximum.accumulate(np.concatenate(([-np.inf], ranks[:-1])))
    return [int(at) for at in np.flatnonzero(ranks > best_before)]
