"""Generators of many clients at once are those of each alone."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lotteryfl.common.randomness import _spread, generator, generators


@settings(max_examples=50, deadline=None)
@given(seeds=st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 2**32 + 1), max_size=20))
def test_seeds_are_spread_as_numpy_does_it(seeds: list[int]) -> None:
    words = _spread(np.array(seeds, dtype=np.uint64))
    expected = [np.random.SeedSequence(seed).generate_state(4, np.uint64).tolist() for seed in seeds]
    assert words.tolist() == expected


def test_many_generators_draw_what_each_alone_does() -> None:
    many = [rng.dirichlet(np.full(10, 0.5)).tobytes() for rng in generators(7, "draws", range(100, 200))]
    assert many == [generator(7, "draws", part).dirichlet(np.full(10, 0.5)).tobytes() for part in range(100, 200)]
    assert len(set(many)) == 100
    assert list(generators(7, "draws", [])) == []
