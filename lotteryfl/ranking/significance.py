"""Whether strategies differ over settings: Friedman's test and Nemenyi's critical difference, or that it is undecided.

As Demšar has it (2006, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, section 3.2.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from lotteryfl.common.errors import LotteryFLError

_LEAST = 3
"""Friedman's test is of so many strategies or more."""


@dataclass(frozen=True)
class Ranking:
    """Strategies by their mean rank over blocks, the best first."""

    labels: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    """Of each label, from 1, the best; equals share their ranks."""
    blocks: int
    """How many settings the ranks are of."""
    statistic: float
    """Friedman's χ², corrected for ties."""
    p_value: float
    """That ranks as different as these come about where all strategies are alike."""
    critical_difference: float
    """Nemenyi's: mean ranks that are less apart do not differ."""
    alpha: float

    @property
    def undecided(self) -> str:
        """Why nothing is decided; "": some strategies differ."""
        widest = len(self.labels) - 1
        if self.critical_difference > widest:
            return (
                f"too few blocks ({self.blocks}) for {len(self.labels)} strategies: not even "
                f"always the best and always the worst ({widest} apart) would differ by {self.critical_difference:.2f}"
            )
        if not self.p_value < self.alpha:
            return f"p = {self.p_value:.3f} is not below {self.alpha:g}"
        if self.mean_ranks[-1] - self.mean_ranks[0] < self.critical_difference:
            return f"no two mean ranks are {self.critical_difference:.2f} apart"
        return ""

    def differ(self, one: str, other: str) -> bool:
        """Tell whether two strategies differ, by what is decided."""
        ranks = dict(zip(self.labels, self.mean_ranks, strict=True))
        return not self.undecided and abs(ranks[one] - ranks[other]) >= self.critical_difference

    def nemenyi(self) -> Any:
        """Return Nemenyi's p-value of every two strategies: a pandas table with the labels along both sides.

        Raises:
            LotteryFLError: pandas is not installed, which comes with the extra `rank`.
        """
        try:
            from pandas import DataFrame
        except ImportError as error:
            raise LotteryFLError("a picture of ranks needs pandas: pip install 'lotteryfl[rank]'") from error
        ranks = np.array(self.mean_ranks)
        apart = np.abs(ranks[:, None] - ranks) / _deviation(len(ranks), self.blocks)
        found = stats.studentized_range.sf(apart * sqrt(2), len(ranks), np.inf)
        return DataFrame(found, index=self.labels, columns=self.labels)


def rank(
    labels: Sequence[str], scores: npt.ArrayLike, higher_is_better: Sequence[bool], alpha: float = 0.05
) -> Ranking:
    """Rank strategies over blocks, and test whether they differ.

    Args:
        labels: of the strategies, 3 or more.
        scores: (blocks, strategies), float: a mean over seeds of each.
        higher_is_better: in each block.
        alpha: at most with what probability strategies that are alike may be said to differ, in (0, 1).

    Raises:
        LotteryFLError: there are too few strategies.
    """
    if len(labels) < _LEAST:
        raise LotteryFLError(f"{', '.join(labels) or 'none'}: expected {_LEAST} strategies or more to rank")
    table = np.asarray(scores, dtype=np.float64)
    table = np.where(np.asarray(higher_is_better)[:, None], -table, table)
    means = stats.rankdata(table, axis=1).mean(axis=0)
    order = np.argsort(means, kind="stable")
    is_tied = bool((table == table[:, :1]).all())  # of which scipy makes a division by zero
    found = (0.0, 1.0) if is_tied else stats.friedmanchisquare(*table.T)
    critical = stats.studentized_range.isf(alpha, len(labels), np.inf) / sqrt(2)
    return Ranking(
        labels=tuple(labels[at] for at in order),
        mean_ranks=tuple(float(means[at]) for at in order),
        blocks=len(table),
        statistic=float(found[0]),
        p_value=float(found[1]),
        critical_difference=float(critical * _deviation(len(labels), len(table))),
        alpha=alpha,
    )


def _deviation(strategies: int, blocks: int) -> float:
    """Return the standard deviation of a difference of two mean ranks where all strategies are alike."""
    return sqrt(strategies * (strategies + 1) / (6 * blocks))
