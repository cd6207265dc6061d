"""What a worker takes of its machine, as its heartbeats tell it."""

import time
from contextlib import suppress

import torch

from lotteryfl.common import accelerators
from lotteryfl.common.memory.peak import resident
from lotteryfl.protos import lotteryfl_pb2 as pb


class Load:
    """Counts a worker's steps; one thread trains, and another asks."""

    def __init__(self, device: torch.device) -> None:
        """Begin to count.

        Args:
            device: where the work is done.
        """
        self._device = device
        self._steps = self._told = 0
        self._since = time.monotonic()

    def step(self) -> None:
        """Count a step of training."""
        self._steps += 1

    def told(self) -> pb.WorkerLoad:
        """Return how it is now; steps a second are those since it was asked for last."""
        now, steps = time.monotonic(), self._steps
        seconds, self._since = now - self._since, now
        done, self._told = steps - self._told, steps
        load = pb.WorkerLoad(memory=resident(), steps_per_second=done / seconds if seconds > 0 else 0.0)
        with suppress(RuntimeError):  # a device that is gone: the work itself says so
            load.device_memory = accelerators.taken(self._device)
        return load
