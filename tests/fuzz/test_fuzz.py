"""The kept corpus through every target, and each target's own mutations of valid inputs; `make fuzz` looks further."""

from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.guard import hold, memory_capped
from tests.fuzz.targets import CORPUS, TARGETS, Target

EXAMPLES = 30
"""Of each target's mutations: quick, and other ones each time."""

MOST_KEPT = 1 << 20
"""Bytes of the corpus."""


def ready(name: str) -> Target:
    """Return a target when what it makes once is made: not under the cap on memory."""
    target = TARGETS[name]
    list(target.seeds())
    return target


@pytest.mark.parametrize("name", TARGETS)
def test_the_kept_corpus_gives_only_typed_errors(name: str) -> None:
    kept = [file.read_bytes() for file in sorted((CORPUS / name).iterdir())]
    assert kept
    target = ready(name)
    for data in kept:
        with memory_capped():
            hold(target.read, data)


@pytest.mark.parametrize("name", TARGETS)
def test_valid_inputs_are_read(name: str) -> None:
    """A target that refuses everything finds nothing: its seeds at least pass its header."""
    target = ready(name)
    first, *_ = target.seeds()
    with memory_capped():
        target.read(first)


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_that_are_nearly_valid_give_only_typed_errors(name: str) -> None:
    target = ready(name)
    seeds = list(target.seeds())

    @settings(max_examples=EXAMPLES)
    @given(st.sampled_from(seeds), st.randoms(use_true_random=False), st.integers(1, 3))
    def read_mutated(data: bytes, random: Random, times: int) -> None:
        for _ in range(times):
            data = target.mutate(data, random)
        with memory_capped():
            hold(target.read, data)

    read_mutated()


def test_the_corpus_stays_small() -> None:
    assert sum(file.stat().st_size for file in CORPUS.rglob("*") if file.is_file()) < MOST_KEPT


def test_memory_beyond_the_cap_is_refused() -> None:
    """The guard guards: also torch's memory, and numpy's that nobody has touched."""
    with memory_capped():
        with pytest.raises(MemoryError):
            np.empty(1 << 28, np.uint8)
        with pytest.raises(RuntimeError, match="allocate memory"):
            torch.empty(1 << 28, dtype=torch.uint8)
    assert torch.empty(1 << 28, dtype=torch.uint8).numel() == np.empty(1 << 28, np.uint8).size
