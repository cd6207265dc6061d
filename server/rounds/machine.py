"""What a worker computes on, as it says when it registers: for people to see; nothing is decided by it."""

import re
from typing import NamedTuple

from rich.filesize import decimal

from lotteryfl.common.text import quoted
from lotteryfl.protos import lotteryfl_pb2 as pb

_DEVICE = re.compile(r"[a-z0-9_]{1,24}(:\d{1,4})?", re.ASCII)
_MOST_VERSION = 64
MOST_MEMORY = 1 << 50
"""Bytes that a worker may say of its machine."""


class Machine(NamedTuple):
    """A device, its memory and the torch that runs there; empty and 0 where an older worker does not say it."""

    device: str = ""
    memory: int = 0
    torch: str = ""

    @property
    def kind(self) -> str:
        """The device without its number."""
        return self.device.partition(":")[0] or "unknown"

    def __str__(self) -> str:
        """Name what is known of it."""
        memory = decimal(self.memory) if self.memory else ""
        return ", ".join(filter(None, (self.device, memory, self.torch and f"torch {self.torch}")))

    def message(self, worker: str) -> pb.WorkerMachine:
        """Return it as observers are told of it.

        Args:
            worker: the name of the one that has it.
        """
        return pb.WorkerMachine(worker=worker, device=self.device, device_memory=self.memory, torch_version=self.torch)


UNKNOWN = Machine()
"""Of a worker that has said nothing of it."""


def machine_of(request: pb.RegisterRequest) -> Machine:
    """Return what a worker says of its machine.

    Raises:
        ValueError: it cannot be so; the message names the field.
    """
    device, memory, version = request.device, request.device_memory, request.torch_version
    if device and not _DEVICE.fullmatch(device):
        raise ValueError(f"device {quoted(device)}: expected a kind and perhaps a number, as cuda:0")
    if memory > MOST_MEMORY:
        raise ValueError(f"device_memory {memory}: expected at most {MOST_MEMORY} bytes")
    if len(version) > _MOST_VERSION or not version.isprintable():
        raise ValueError(f"torch_version {quoted(version)}: expected at most {_MOST_VERSION} printable characters")
    return Machine(device, memory, version)
