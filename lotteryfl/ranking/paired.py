"""What two strategies differ by, client by client: the same clients with the same data, drawn again and again."""

from collections.abc import Mapping
from math import isfinite
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

CONFIDENCE = 0.95
_DRAWS = 10_000


class Difference(NamedTuple):
    """Mean over clients of one strategy's score less another's, with its bootstrap interval."""

    mean: float
    low: float
    high: float

    @property
    def is_decided(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    def as_json(self) -> dict[str, float | None]:
        """Return the figures; null: there is no end, of which JSON has no number."""
        return {key: value if isfinite(value) else None for key, value in self._asdict().items()}

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]{'' if self.is_decided else ' not decidable'}"


def difference(one: npt.ArrayLike, other: npt.ArrayLike) -> Difference:
    """Return the mean difference of two strategies over the same clients, and its 95 % interval.

    Clients are drawn with replacement, each with both of its scores (percentiles of 10,000 means; Efron and Tibshirani
    1993, "An Introduction to the Bootstrap", chapter 13). The draws are always the same. The interval is about which
    clients there are, not about which seeds.

    Args:
        one: (clients,), float: a strategy's scores, of each client its mean over seeds.
        other: (clients,), the same of the strategy that is taken away.
    """
    apart = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    mean = float(apart.mean())
    if np.ptp(apart) == 0:  # one client, or the same difference for all: nothing to draw
        return Difference(mean, mean, mean) if len(apart) > 1 else Difference(mean, -np.inf, np.inf)
    interval = stats.bootstrap(
        (apart,),
        np.mean,
        n_resamples=_DRAWS,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Difference(mean, float(interval.low), float(interval.high))


def difference_of_clients(one: Mapping[int, float], other: Mapping[int, float]) -> Difference | None:
    """Return `difference` over the clients that two strategies both have scores of; None: there are none.

    Args:
        one: by client, a strategy's score.
        other: of the strategy that is taken away.
    """
    common = sorted(one.keys() & other.keys())
    return difference([one[client] for client in common], [other[client] for client in common]) if common else None
