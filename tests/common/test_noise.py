"""Noise: its distribution, on fixed bytes, and where its bytes come from otherwise."""

import os

import numpy as np
import pytest
import torch
from scipy import stats

from lotteryfl.common.noise import gaussian, uniform


def test_uniform_values_are_the_sources_52_bits_and_never_0_or_1() -> None:
    least, most = uniform(1, lambda size: bytes(size)), uniform(1, lambda size: b"\xff" * size)
    assert (float(least), float(most)) == (2.0**-53, 1 - 2.0**-53)
    assert gaussian(2, 1.0, lambda size: bytes(8) + b"\xff" * 8).isfinite().all()


def test_values_are_of_the_normal_distribution() -> None:
    values = gaussian(200_000, 0.25, np.random.default_rng(0).bytes)
    assert values.dtype is torch.float64
    assert stats.kstest(values.numpy(), stats.norm(0, 0.25).cdf).pvalue > 0.01
    lagged = np.corrcoef(values[:-1], values[1:])[0, 1]
    assert abs(lagged) < 0.01


def test_without_a_source_the_values_come_from_the_system_and_no_seed_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        found.append(gaussian(8, 1.0))
    assert not torch.equal(*found)
    assert gaussian.__defaults__ == uniform.__defaults__ == (os.urandom,)
