"""The device that is checked: its name, when it is done, how much it holds and how busy it is."""

import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from types import TracebackType
from typing import Self

import torch

MIB = 1 << 20


def synchronize(device: torch.device) -> None:
    """Wait until all is done that a device was asked for."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()


def forget_peak(device: torch.device) -> None:
    """Let `peak_mib` begin anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_mib(device: torch.device) -> str:
    """Return the most that this process's tensors have taken of a device."""
    return f"{torch.cuda.max_memory_allocated(device) / MIB:,.0f} MiB" if device.type == "cuda" else "not measured"


def described(device: torch.device) -> str:
    """Return what the figures are of: the card, and the versions that matter."""
    name = "the CPU" if device.type == "cpu" else str(device)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name = f"{properties.name} with {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda or '-'}"
    versions = ", ".join(f"{package} {version(package).partition('+')[0]}" for package in ("torch", "numpy", "grpcio"))
    return f"{name}, {platform.system()}, Python {sys.version.split()[0]}, {versions}"


class Busy:
    """How busy the cards of this machine are while a block runs, as nvidia-smi samples it."""

    def __init__(self, device: torch.device) -> None:
        self._command = shutil.which("nvidia-smi") if device.type == "cuda" else None
        self._index = device.index or 0
        self._process: subprocess.Popen[str] | None = None
        self.samples: list[float] = []
        """Percent of the time in which something ran, twice a second."""
        self.used_mib: list[float] = []

    def __enter__(self) -> Self:
        if self._command is not None:
            query = ("--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "--loop-ms=500")
            self._process = subprocess.Popen(  # noqa: S603 - the driver's own program
                [self._command, f"--id={self._index}", *query], stdout=subprocess.PIPE, text=True
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        self._process.terminate()
        output, _ = self._process.communicate()
        for line in output.splitlines():
            numbers = [each.strip() for each in line.split(",")]
            if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
                self.samples.append(float(numbers[0]))
                self.used_mib.append(float(numbers[1]))

    @property
    def share(self) -> float | None:
        """The mean of the upper half of the samples, 0 ... 1: the lower are of starting and ending; None: unknown."""
        upper = sorted(self.samples)[len(self.samples) // 2 :]
        return sum(upper) / len(upper) / 100 if upper else None

    def __str__(self) -> str:
        if self.share is None:
            return "busy share not measured"
        return f"busy {self.share:.0%}, {max(self.used_mib):,.0f} MiB of the card used"
