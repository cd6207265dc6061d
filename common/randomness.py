"""Where all randomness comes from: one function of the run's seed, a purpose, and what it is for."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import permutations

import numpy as np
import numpy.typing as npt
from numpy.random.bit_generator import ISeedSequence

_Words = npt.NDArray[np.uint64]


def derive_seed(run_seed: int, purpose: str, *parts: int) -> int:
    """Return an independent seed in [0, 2**63) for one purpose, e.g. ("training", round, client)."""
    key = "/".join([str(run_seed), purpose, *map(str, parts)])
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") >> 1


def model_seed(run_seed: int) -> int:
    """Return the seed under which a run's model is made, wherever it is."""
    return derive_seed(run_seed, "initial model")


def generator(run_seed: int, purpose: str, *parts: int) -> np.random.Generator:
    """Return numpy's PCG64 generator on `derive_seed`: its stream is the same on every machine."""
    return np.random.Generator(np.random.PCG64(derive_seed(run_seed, purpose, *parts)))


def generators(run_seed: int, purpose: str, parts: Iterable[int]) -> Iterator[np.random.Generator]:
    """Return what `generator` does for each of some parts, five times as fast: their seeds are spread out at once."""
    seeds = np.array([derive_seed(run_seed, purpose, part) for part in parts], dtype=np.uint64)
    # numpy's stub of PCG64 does not know what its documentation takes.
    return (np.random.Generator(np.random.PCG64(_Spread(words))) for words in _spread(seeds))  # type: ignore[arg-type]


class _Spread(ISeedSequence):
    """A seed that has been spread out."""

    def __init__(self, words: _Words) -> None:
        self._words = words

    def generate_state(self, n_words: int, dtype: npt.DTypeLike = np.uint32) -> _Words:  # noqa: ARG002
        """Return what PCG64 asks for: nobody else does."""
        return self._words


def _spread(seeds: _Words) -> _Words:
    """Return what numpy's `SeedSequence` makes of each seed for PCG64, (seeds, 4); numpy promises that it stays so."""
    none = np.zeros(len(seeds), dtype=np.uint32)
    mix = _Hash(0x43B0D7E5, 0x931E8875)
    pool = [mix.of(word) for word in (seeds.astype(np.uint32), (seeds >> np.uint64(32)).astype(np.uint32), none, none)]
    for source, target in permutations(range(4), 2):
        mixed = pool[target] * np.uint32(0xCA01F9DD) - mix.of(pool[source]) * np.uint32(0x4973F715)
        pool[target] = mixed ^ mixed >> np.uint32(16)
    last = _Hash(0x8B51F9DD, 0x58F38DED)
    halves = np.stack([last.of(pool[half % 4]) for half in range(8)], axis=1)
    return halves.astype("<u4").view("<u8").astype(np.uint64)


class _Hash:
    """SeedSequence's hash, which goes on from word to word."""

    def __init__(self, start: int, factor: int) -> None:
        self._constant = start
        self._factor = factor

    def of(self, words: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        """Return the next word of every seed."""
        before = np.uint32(self._constant)
        self._constant = self._constant * self._factor % 2**32
        hashed = (words ^ before) * np.uint32(self._constant)
        return hashed ^ hashed >> np.uint32(16)
