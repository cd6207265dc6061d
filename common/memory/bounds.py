"""How much memory a process may take, and who says so: the machine, its container, its shell, or the device."""

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from lotteryfl.common.errors import DeviceGoneError
from lotteryfl.common.usercode import first_line

_ROOT = Path("/")
_MEMBERSHIP = "proc/self/cgroup"
_V2 = ("sys/fs/cgroup", "memory.max")
_V1 = ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
_LIMITS = {"RLIMIT_AS": 0, "RLIMIT_DATA": 5}
"""Limits of a process (`ulimit -v`, `ulimit -d`), with the column of /proc/self/statm that counts towards each."""


@dataclass(frozen=True)
class Bound:
    """Bytes that may be taken."""

    nbytes: int
    source: str
    """Where the bound comes from, as a message names it."""

    def halved(self) -> "Bound":
        """Return half of it."""
        return Bound(self.nbytes // 2, f"half of {self.source}")


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
    if device.type != "cuda":
        return None
    try:
        free, _ = torch.cuda.mem_get_info(device)
        ours = torch.cuda.memory_reserved(device)
    except RuntimeError as error:
        raise DeviceGoneError(f"{device}: cannot be used any more: {first_line(error)}") from error
    return Bound(free + ours, f"what is free on {device}")


def _of_containers(root: Path) -> Iterator[Bound]:
    """Yield the limits of the process's control group and of all around it, in version 2 and in version 1."""
    try:
        lines = (root / _MEMBERSHIP).read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            folder, name = _V1 if controllers else _V2
            yield from _upwards(root / folder, path, name)


def _upwards(top: Path, path: str, name: str) -> Iterator[Bound]:
    """Yield what is set from a group up to the top, which inside of a container is often all that can be seen."""
    group = top / path.strip("/") if ".." not in path.split("/") else top
    for folder in (group, *group.parents):
        try:
            value = (folder / name).read_text().strip()
        except OSError:
            value = "max"  # not to be seen from here
        if value.isdecimal():
            yield Bound(int(value), f"the container's memory, {folder / name}")
        if folder == top:
            return


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
