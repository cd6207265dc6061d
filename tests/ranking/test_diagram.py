"""The picture of ranks can be read."""

import numpy as np
import pytest

from lotteryfl.ranking.diagram import picture
from lotteryfl.ranking.significance import rank

pytest.importorskip("scikit_posthocs", reason="the extra rank")


def test_nothing_lies_over_the_ranks() -> None:
    scores = np.linspace([0.9, 0.8, 0.7, 0.6], [0.95, 0.85, 0.75, 0.65], 12)
    ranking = rank(["a", "b", "c", "d"], scores, [True] * 12)
    (axes,) = picture(ranking, "mean rank").axes
    assert axes.get_title().startswith(f"mean rank (critical difference {ranking.critical_difference:.2f})")
    heights = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines])
    assert heights.max() <= 0, "the ranks stand above the line"
