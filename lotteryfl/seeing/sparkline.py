"""A curve in one line of text."""

from collections.abc import Sequence
from statistics import fmean

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """Return values as bars from the least of them to the greatest; of many, the mean of neighbours.

    Args:
        values: finite, in order.
        width: characters at most.
    """
    if not values or width < 1:
        return ""
    count = min(len(values), width)
    means = [fmean(values[i * len(values) // count : (i + 1) * len(values) // count]) for i in range(count)]
    least, most = min(means), max(means)
    if most == least:
        return _BARS[len(_BARS) // 2 - 1] * count
    return "".join(_BARS[min(len(_BARS) - 1, int((mean - least) / (most - least) * len(_BARS)))] for mean in means)
