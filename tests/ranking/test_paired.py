"""The paired bootstrap, held against scipy's own and the textbook's interval."""

import json

import numpy as np
import pytest
from scipy import stats

from lotteryfl.ranking.paired import difference


def test_the_interval_is_that_of_the_mean_of_the_differences() -> None:
    generator = np.random.default_rng(1)
    one = generator.normal(0.8, 0.1, 200)
    other = one - generator.normal(0.02, 0.05, 200)
    found = difference(one, other)
    assert found == difference(one, other)
    assert found.mean == pytest.approx((one - other).mean())
    low, high = stats.t.interval(0.95, 199, (one - other).mean(), stats.sem(one - other))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.001)
    unpaired = stats.bootstrap(
        (one, other), lambda x, y, axis: x.mean(axis) - y.mean(axis), rng=np.random.default_rng(0)
    ).confidence_interval
    assert found.high - found.low < (unpaired.high - unpaired.low) / 2  # what clients have in common is gone
    assert found.is_decided
    assert difference(other, one).mean == -found.mean


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        found = difference(generator.normal(0.1, 1, 60), np.zeros(60))
        hits += found.low <= 0.1 <= found.high
    assert 180 <= hits <= 198


def test_where_an_interval_has_0_in_it_nothing_is_decided() -> None:
    apart = np.tile([0.1, -0.1], 20)
    assert not difference(apart, np.zeros(40)).is_decided
    assert "not decidable" in str(difference(apart, np.zeros(40)))
    assert difference(np.full(9, 0.5), np.full(9, 0.25)) == (0.25, 0.25, 0.25)
    assert not difference([0.9], [0.1]).is_decided  # one client says nothing of others


def test_figures_of_one_client_are_json_too() -> None:
    assert difference([0.5], [0.25]).as_json() == {"mean": 0.25, "low": None, "high": None}
    assert json.loads(json.dumps(difference([0.5, 1.0], [0.25, 0.5]).as_json(), allow_nan=False))["mean"] == 0.375
