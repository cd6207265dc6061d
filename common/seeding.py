"""The generators that libraries and people's own code draw from unasked: seeded for a while, then as they were."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators of `random`, NumPy and torch; restore their states on leaving.

    Args:
        seed: not negative.
        device: whose generator of torch is seeded too; None: the CPU's alone, and no other is touched.
    """
    devices = [] if device is None or device.type == "cpu" else [device]
    own, numpys = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=devices, device_type=devices[0].type if devices else "cpu"):
        random.seed(seed)
        np.random.set_state(np.random.RandomState(np.random.MT19937(seed)).get_state())
        # Not by torch.manual_seed, which seeds every device that there is.
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        for each in devices:
            state = torch.Generator(each).manual_seed(seed).get_state()
            torch.get_device_module(each).set_rng_state(state, each)
        try:
            yield
        finally:
            random.setstate(own)
            np.random.set_state(numpys)
