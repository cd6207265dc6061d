"""How much memory a process may take, and who says so: the machine, its container, its shell, or the device."""

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.filesize import decimal

from lotteryfl.common.accelerators import device_memory
from lotteryfl.common.cgroups import group_values

_ROOT = Path("/")
_V2 = ("sys/fs/cgroup", "memory.max")
_V1 = ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
_AVAILABLE = "MemAvailable:"
_LEAST_PARTS = 2
_LIMITS = {"RLIMIT_AS": 0, "RLIMIT_DATA": 5}
"""Limits of a process (`ulimit -v`, `ulimit -d`), with the column of /proc/self/statm that counts towards each."""


@dataclass(frozen=True)
class Bound:
    """Bytes that may be taken."""

    nbytes: int
    source: str
    """Where the bound comes from, as a message names it."""

    def __str__(self) -> str:
        """Say how much it is, and who says so."""
        return f"{decimal(self.nbytes)} ({self.source})"

    def halved(self) -> "Bound":
        """Return half of it."""
        return Bound(self.nbytes // 2, f"half of {self.source}")

    def shared(self, processes: int) -> "Bound":
        """Return the part of one of several processes that share it with each other, and of one alone half of it."""
        if processes <= _LEAST_PARTS:
            return self.halved()
        return Bound(self.nbytes // processes, f"1/{processes} of {self.source}")


def host_bound(root: Path = _ROOT) -> Bound:
    """Return what this process may take of the machine's memory: the least of all that bounds it.

    Args:
        root: where /proc and /sys are.
    """
    machine = Bound(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "the machine's memory")
    bounds = (machine, *_of_containers(root), *_of_the_process(root))
    return min(bounds, key=lambda bound: bound.nbytes)


def device_bound(device: torch.device) -> Bound | None:
    """Return what this process may take of a device with memory of its own, or None: it has none, or nobody knows.

    Raises:
        DeviceGoneError: it does not answer.
    """
    memory = device_memory(device)
    return memory and Bound(memory.free + memory.ours, f"what is free on {device}")


def memory_of(device: torch.device) -> int:
    """Return the bytes of memory where a device works: all of its own, or what this process may take of the machine's.

    Raises:
        DeviceGoneError: it does not answer.
    """
    memory = device_memory(device)
    return memory.total if memory else host_bound().nbytes


def left_of(device: torch.device, root: Path = _ROOT) -> Bound:
    """Return what this process may still take where a device works: of its own memory, or else of the machine's.

    Args:
        device: where it works.
        root: where /proc and /sys are.

    Raises:
        DeviceGoneError: the device does not answer.
    """
    return device_bound(device) or min((host_bound(root), *_available(root)), key=lambda bound: bound.nbytes)


def _available(root: Path) -> Iterator[Bound]:
    """Yield what no process has taken of the machine's memory, where the kernel says it."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        if line.startswith(_AVAILABLE):
            yield Bound(1024 * int(line.removeprefix(_AVAILABLE).split()[0]), "what is free of the machine's memory")


def _of_containers(root: Path) -> Iterator[Bound]:
    """Yield the limits of the process's control group and of all around it, in version 2 and in version 1."""
    for file, value in group_values(root, "memory", v2=_V2, v1=_V1):
        if value.isdecimal():
            yield Bound(int(value), f"the container's memory, {file}")


def _of_the_process(root: Path) -> Iterator[Bound]:
    """Yield what is left of the limits that the process was started with."""
    try:
        columns = (root / "proc/self/statm").read_text().split()
    except OSError:
        columns = ["0"] * (max(_LIMITS.values()) + 1)
    for name, column in _LIMITS.items():
        soft, _ = resource.getrlimit(getattr(resource, name))
        if soft != resource.RLIM_INFINITY:
            taken = int(columns[column]) * os.sysconf("SC_PAGE_SIZE")
            yield Bound(max(0, soft - taken), f"what is left of {name}")
