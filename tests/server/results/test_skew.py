import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lotteryfl.server.results.skew import label_skew

COUNTS = hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(0, 50)).filter(
    lambda counts: counts.sum() > 0
)


@given(COUNTS)
def test_it_is_the_mean_total_variation_distance(counts: np.ndarray) -> None:
    everybody = counts.sum(axis=0) / counts.sum()
    expected = 0.0
    for row in counts:
        if row.sum():
            # The definition of total variation: the largest difference that any set of classes makes.
            difference = row / row.sum() - everybody
            expected += row.sum() / counts.sum() * difference[difference > 0].sum()
    assert label_skew(counts) == pytest.approx(expected)
    assert -1e-12 <= label_skew(counts) <= 1 - (everybody**2).sum() + 1e-12


@given(COUNTS, st.randoms(use_true_random=False))
def test_neither_names_nor_numbers_matter(counts: np.ndarray, random: np.random.Generator) -> None:
    classes = list(range(counts.shape[1]))
    random.shuffle(classes)
    assert label_skew(counts[:, classes]) == pytest.approx(label_skew(counts))
    assert label_skew(3 * counts) == pytest.approx(label_skew(counts))
    assert label_skew(np.vstack([counts, counts])) == pytest.approx(label_skew(counts))


def test_known_values() -> None:
    assert label_skew(np.full((5, 10), 4)) == 0
    assert label_skew(np.eye(10, dtype=int)) == pytest.approx(0.9)
    assert label_skew(np.eye(10, dtype=int).repeat(2, axis=0).reshape(10, 2, 10).sum(1)) == pytest.approx(0.9)
    pairs = np.eye(10, dtype=int) + np.roll(np.eye(10, dtype=int), 1, axis=1)
    assert label_skew(20 * pairs) == pytest.approx(0.8)


@pytest.mark.parametrize("counts", [np.zeros((2, 2)), np.ones(3), np.array([[1, -1], [2, 2]])])
def test_what_is_no_count_is_refused(counts: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected \(clients, classes\), not negative and not all 0"):
        label_skew(counts)
