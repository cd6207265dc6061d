"""How much memory this process takes, and one assignment's work has taken at its peak."""

import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from rich.filesize import decimal

from lotteryfl.common import accelerators

_PROC = Path("/proc/self")
_FORGET_PEAK = "5"
"""What `clear_refs` takes for the peak of the resident set to be that of now."""
_PEAK, _RESIDENT = "VmHWM:", "VmRSS:"
_KIB = 1024


class Peak(NamedTuple):
    """Bytes at the peak."""

    host: int
    """Of the whole process."""
    device: int = 0
    """Of tensors on a device with memory of its own."""
    held: int = 0
    """That torch held there for them."""

    def __str__(self) -> str:
        """Name what was measured."""
        own = f"{decimal(self.device)} of the device ({decimal(self.held)} held), " if self.held else ""
        return f"{own}{decimal(self.host)} of the machine"


class PeakMeter:
    """Measures one assignment after the other."""

    def __init__(self, device: torch.device) -> None:
        """Set where the work is done."""
        self._device = device

    def begin(self) -> None:
        """Forget what was before."""
        accelerators.begin_peak(self._device)
        with suppress(OSError):  # no Linux, or not allowed: the peak is then that of the process's whole life
            (_PROC / "clear_refs").write_text(_FORGET_PEAK)

    def peak(self) -> Peak:
        """Return what was taken since then."""
        return Peak(_host_peak(), *accelerators.peak(self._device))


def resident() -> int:
    """Return bytes of this process that are in the machine's memory now; 0 where the system does not say."""
    return _in_status(_RESIDENT) or 0


def _host_peak() -> int:
    if found := _in_status(_PEAK):
        return found
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else _KIB * most


def _in_status(key: str) -> int | None:
    """Return what Linux says of this process's memory; None: it is another system."""
    try:
        lines = (_PROC / "status").read_text().splitlines()
    except OSError:
        return None
    return next((_KIB * int(line.removeprefix(key).split()[0]) for line in lines if line.startswith(key)), None)
