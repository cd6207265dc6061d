"""A small task whose clients ask at a gate before they hand out their data: tests hold a worker where they want.

The gate is a TCP port on loopback, named in GATE; without it, or when it is closed, everyone passes. FORKS names
a file that gets a byte for every fork of a process that has imported this task.
"""

import contextlib
import os
import socket
import time
from pathlib import Path

import numpy as np
from torch import nn

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.randomness import generator

_HELD_SECONDS = 60.0
_LOOK_SECONDS = 0.2
"""A signal that comes as a system call begins is looked at when that ends: waiting is done in many short ones."""

_EXAMPLES = (24, 8, 8)
_FEATURES, _CLASSES = 12, 3

if "FORKS" in os.environ:
    _forks = Path(os.environ["FORKS"]).open("ab", buffering=0)  # noqa: SIM115 - as long as the process
    os.register_at_fork(before=lambda: _forks.write(b"x"))


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(_FEATURES, 16), nn.ReLU(), nn.Linear(16, _CLASSES))


def client(k: int, experiment: Experiment) -> list[tuple[np.ndarray, np.ndarray]]:
    _pass_gate(k)
    centres = generator(experiment.seed, "centres").normal(size=(_CLASSES, _FEATURES))
    random = generator(experiment.seed, "examples", k)
    parts = []
    for size in _EXAMPLES:
        labels = random.integers(_CLASSES, size=size)
        parts.append((centres[labels] + random.normal(size=(size, _FEATURES)), labels))
    return parts


def _pass_gate(k: int) -> None:
    if "GATE" not in os.environ:
        return
    address = ("127.0.0.1", int(os.environ["GATE"]))
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=_HELD_SECONDS) as gate:
        gate.sendall(f"{k} {os.getpid()}\n".encode())
        gate.settimeout(_LOOK_SECONDS)
        ends = time.monotonic() + _HELD_SECONDS
        while time.monotonic() < ends:
            with contextlib.suppress(TimeoutError):
                gate.recv(1)
                return
