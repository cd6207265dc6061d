"""What clients send, and no check refuses, ends no conclusion of a round."""

import math

import torch

from lotteryfl.server.strategies.prunefl import _most_for_the_time
from lotteryfl.server.strategies.scaffold import _between


def test_prunefl_ends_where_rounding_brings_back_what_has_just_gone() -> None:
    """The ratio is a float64 between two float32: what equals it as float32 is above it, and then not."""
    ratio = 1 - 0.7 * 2**-24
    for gain, time in ((ratio, 1.0), (0.0, 0.0), (-1.0, 1.0)):
        importance = [torch.tensor([1.0, 1.0, 0.25, -1.0])]
        assert 0 <= _most_for_the_time(importance, [torch.zeros(4, dtype=torch.bool)], gain, time) <= 4


def test_scaffolds_variates_stay_finite_whatever_they_move_by() -> None:
    most = torch.finfo(torch.float32).max
    moved = _between(torch.tensor([-most, 1.0]), torch.tensor([most, 2.0]), 0.5)
    assert moved.tolist() == [0.0, 1.5]
    assert math.isfinite(float(_between(torch.tensor([-most]), torch.tensor([most]), 1 - 1e-9)))
