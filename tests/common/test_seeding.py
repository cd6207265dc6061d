"""Global generators are seeded for a while and then as they were, and no device is asked that is not used."""

import random

import numpy as np
import pytest
import torch

from lotteryfl.common.seeding import seeded


def drawn() -> list[float]:
    return [random.random(), np.random.random(), float(torch.rand(()))]  # noqa: S311 - no secrets


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def test_the_same_seed_gives_the_same_draws_and_leaves_no_trace() -> None:
    with seeded(5):
        first, second = drawn(), drawn()
    seed_all(1)
    undisturbed = drawn()
    seed_all(1)
    with seeded(5):
        again = drawn()
        with seeded(6):
            other = drawn()
        with pytest.raises(KeyError), seeded(7):
            raise KeyError
        rest = drawn()
    assert drawn() == undisturbed
    assert (again, rest) == (first, second)
    assert all(a != b for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_every_seed_of_a_run_will_do(seed: int) -> None:
    with seeded(seed):
        first = drawn()
    with seeded(seed):
        assert drawn() == first


def test_no_device_is_touched_that_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with two GPUs: asking one for its state would make a context there, and here it fails."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    before = len(torch.cuda._queued_calls)
    with seeded(5):
        drawn()
    assert len(torch.cuda._queued_calls) == before
    assert not torch.cuda.is_initialized()
