"""Ranks and their tests, held against Demšar's published example, scipy and scikit-posthocs."""

import numpy as np
import pytest
from scipy import stats

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.ranking.significance import rank

# Demšar 2006, table 6: areas under the curve of four decision trees on 14 data sets. On "voting" the third and fourth
# both read 0.975 and have ranks 2 and 3 there.
TREES = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]
AREAS = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9754, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_ranks_and_critical_difference_are_the_published_ones() -> None:
    found = rank(TREES, AREAS, [True] * 14)
    ranks = dict(zip(found.labels, found.mean_ranks, strict=True))
    assert found.labels == ("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5")
    assert {label: round(value, 3) for label, value in ranks.items()} == {
        "C4.5": 3.143,
        "C4.5+m": 2.0,
        "C4.5+cf": 2.893,
        "C4.5+m+cf": 1.964,
    }
    assert round(found.critical_difference, 2) == 1.25
    squares = sum(value**2 for value in ranks.values())
    assert round(12 * 14 / (4 * 5) * (squares - 4 * 5**2 / 4), 2) == 9.28  # the published χ², without ties
    assert found.statistic >= 9.28
    assert found.undecided == "no two mean ranks are 1.25 apart"  # section 3.2.2: "not powerful enough" at 0.05


def test_at_a_tenth_the_published_pairs_differ() -> None:
    found = rank(TREES, AREAS, [True] * 14, alpha=0.1)
    assert round(found.critical_difference, 2) == 1.12
    pairs = {(one, other) for one in TREES for other in TREES if one < other and found.differ(one, other)}
    assert pairs == {("C4.5", "C4.5+m"), ("C4.5", "C4.5+m+cf")}


def test_friedman_is_scipys_and_nemenyi_scikit_posthocs() -> None:
    posthocs = pytest.importorskip("scikit_posthocs")
    scores = np.random.default_rng(0).normal(size=(6, 5)) + np.arange(5)
    found = rank(list("abcde"), scores, [True] * 6)
    assert (found.statistic, found.p_value) == pytest.approx(tuple(stats.friedmanchisquare(*scores.T)))
    assert found.labels == tuple("edcba")
    assert not found.undecided
    expected = posthocs.posthoc_nemenyi_friedman(scores)
    order = ["abcde".index(label) for label in found.labels]
    assert found.nemenyi().to_numpy() == pytest.approx(expected.to_numpy()[np.ix_(order, order)])
    for one, other in ((0, 4), (3, 4)):
        assert found.differ("abcde"[one], "abcde"[other]) == (expected.iloc[one, other] < 0.05)


def test_a_block_in_which_less_is_better_ranks_the_other_way_round() -> None:
    scores = np.arange(12.0).reshape(4, 3)
    assert rank(list("abc"), scores, [True] * 4).labels == ("c", "b", "a")
    mixed = np.where(np.array([[True], [False], [True], [False]]), scores, -scores)
    assert rank(list("abc"), mixed, [True, False, True, False]) == rank(list("abc"), scores, [True] * 4)


@pytest.mark.parametrize(
    ("blocks", "why"),
    [
        (1, "too few blocks (1) for 3 strategies: not even always the best and always the worst (2 apart) would"),
        (2, "too few blocks (2)"),
        (12, "p = 1.000 is not below 0.05"),
    ],
)
def test_what_cannot_be_told_is_said_to_be_undecided(blocks: int, why: str) -> None:
    always = np.tile([1.0, 2.0, 3.0], (blocks, 1)) if blocks < 12 else np.ones((blocks, 3))
    found = rank(list("abc"), always, [True] * blocks)
    assert found.undecided.startswith(why)
    assert not found.differ("a", "c")


def test_two_strategies_are_not_ranked() -> None:
    with pytest.raises(LotteryFLError, match="a, b: expected 3 strategies or more to rank"):
        rank(["a", "b"], [[1, 2]], [True])
