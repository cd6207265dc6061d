"""What torch says of the accelerators that this process sees: CUDA, ROCm, XPU and MPS alike, by `torch.accelerator`.

Nobody else asks it for them: what is decided by the answers is decided elsewhere, and can be shown with any.
"""

from functools import cache
from typing import NamedTuple

import torch

from lotteryfl.common.errors import DeviceGoneError
from lotteryfl.common.owncode.usercode import first_line


class DeviceMemory(NamedTuple):
    """Bytes of a device that has memory of its own."""

    free: int
    """That no process holds."""
    total: int
    ours: int
    """That this process's allocator holds, in use or not."""
    used: int
    """Of these, in use."""

    @property
    def to_be_had(self) -> int:
        """What this process can still take."""
        return self.free + self.ours - self.used


@cache
def kind() -> str:
    """Return what the accelerators here are, as torch names them (ROCm's are "cuda"); empty: there are none.

    It is asked once: one that is gone later is still one.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    return found.type if found else ""


def count() -> int:
    """Return how many there are; of those that a scheduler or a container hides, torch sees nothing."""
    return torch.accelerator.device_count() if kind() else 0


def is_accelerator(device: torch.device) -> bool:
    """Tell whether a device is one of them."""
    return device.type == kind()


def make_current(device: torch.device) -> None:
    """Let what names no device happen there: else a process takes memory of the first one too."""
    if device.index is not None and is_accelerator(device):
        torch.accelerator.set_device_index(device)


def device_memory(device: torch.device) -> DeviceMemory | None:
    """Return what memory a device has of its own, or None: it has none, or torch does not know.

    Raises:
        DeviceGoneError: it does not answer.
    """
    if not _tells_of_memory(device):
        return None
    try:
        free, total = torch.accelerator.get_memory_info(device)
        ours, used = torch.accelerator.memory_reserved(device), torch.accelerator.memory_allocated(device)
        return DeviceMemory(free, total, ours, used)
    except RuntimeError as error:
        raise _gone(device, error) from error


def begin_peak(device: torch.device) -> None:
    """Let what is taken at the peak be measured from now on."""
    if _tells_of_memory(device):
        torch.accelerator.reset_peak_memory_stats(device)


def peak(device: torch.device) -> tuple[int, int]:
    """Return the most bytes that tensors took since then, and that were held for them; 0 where nobody counts."""
    if not _tells_of_memory(device):
        return 0, 0
    return torch.accelerator.max_memory_allocated(device), torch.accelerator.max_memory_reserved(device)


def taken(device: torch.device) -> int:
    """Return the bytes that tensors take there now; 0 where nobody counts."""
    return torch.accelerator.memory_allocated(device) if _tells_of_memory(device) else 0


def release(device: torch.device) -> None:
    """Wait for what is under way, and give back what nothing uses any more, where torch counts a device's memory.

    Raises:
        DeviceGoneError: the device is gone, as after an assertion in one of its kernels.
    """
    if not _tells_of_memory(device):
        return
    try:
        torch.accelerator.synchronize(device)
        torch.accelerator.empty_cache()
    except RuntimeError as error:
        raise _gone(device, error) from error


@cache
def _tells_of_memory(device: torch.device) -> bool:
    """Tell whether torch counts a device's memory: not that of a CPU, nor of every accelerator; asked once."""
    if not is_accelerator(device):
        return False
    try:
        torch.accelerator.get_memory_info(device)
        torch.accelerator.memory_reserved(device)
    except RuntimeError:  # NotImplementedError is one
        return False
    return True


def _gone(device: torch.device, error: RuntimeError) -> DeviceGoneError:
    return DeviceGoneError(f"{device}: cannot be used any more: {first_line(error)}")
