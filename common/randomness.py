"""Where all randomness comes from: one function of the run's seed, a purpose, and what it is for."""

import hashlib

import numpy as np


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
