"""Which devices to compute on: one, or a worker on each of several. What a scheduler hides from torch is not taken."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from lotteryfl.common import accelerators
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.clientranges import parse_clients

_CPU = "cpu"
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_MIG = "MIG-"
"""What begins the identifier of a slice of a card."""


class Seen(NamedTuple):
    """The accelerators that torch sees in this process."""

    kind: str
    """As torch names them; empty: there are none."""
    number: int
    """How many."""
    visible: str = ""
    """What `CUDA_VISIBLE_DEVICES` says, by whoever has set it."""


@dataclass(frozen=True)
class Place:
    """Where a worker's process works."""

    device: str
    """As that process's `--device` takes it."""
    name: str
    """As a part of its name: a worker's has no colon."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What that process is to have in its environment, beside ours, to see its device."""

    @property
    def is_cpu(self) -> bool:
        """Whether it is the machine's own processor."""
        return self.device == _CPU


def choose_device(text: str) -> torch.device:
    """Return the device that `--device` names; auto is the accelerator that torch finds, else the CPU.

    It is the current one from then on.

    Raises:
        LotteryFLError: torch has no such device here.
    """
    if text == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device(_CPU)
    try:
        device = torch.device(text)
        accelerators.make_current(device)
        torch.ones(1, device=device).tolist()  # meta has tensors, and nothing in them
    except (RuntimeError, AssertionError) as error:
        raise LotteryFLError(f"--device {text}: cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def seen() -> Seen:
    """Return what torch sees here; no memory of a device is taken for it."""
    return Seen(accelerators.kind(), accelerators.count(), os.environ.get(_VISIBLE, ""))


def places(text: str, there: Seen) -> list[Place]:
    """Return the devices that `--devices` names, each once.

    Args:
        text: all, or a kind as torch names it: all of these; or a kind with numbers, as cuda:0,2 or cuda:0-3.
        there: what torch sees.

    Raises:
        LotteryFLError: some of it is not there.
    """
    kind, colon, numbers = ((there.kind or _CPU) if text == "all" else text).partition(":")
    if kind == _CPU and there.kind != _CPU:
        all_ = [Place(_CPU, _CPU)]
    elif kind and kind == there.kind:
        all_ = _slices(there) or [Place(f"{kind}:{number}", f"{kind}{number}") for number in range(there.number)]
    else:
        raise LotteryFLError(f"--devices {text}: torch sees {_told(there)} here")
    return [_numbered(all_, number, text, there) for number in _numbers(numbers, text)] if colon else all_


def spread(text: str, there: Seen) -> list[Place]:
    """Return the places over which workers that share one `--device` are spread: auto is every accelerator."""
    return places("all", there) if text == "auto" else [Place(text, text.replace(":", ""))]


def _slices(there: Seen) -> list[Place]:
    """Return the slices of cards that are named here: a process sees no more than one, so each is given its own."""
    named = [entry.strip() for entry in there.visible.split(",")] if there.visible else []
    if not any(entry.startswith(_MIG) for entry in named):
        return []
    return [Place(f"{there.kind}:0", f"{there.kind}{number}", {_VISIBLE: entry}) for number, entry in enumerate(named)]


def _numbers(text: str, whole: str) -> list[int]:
    try:
        return sorted(parse_clients(text))
    except ValueError as error:
        raise LotteryFLError(f"--devices {whole}: expected numbers, as cuda:0,2 or cuda:0-3: got {text!r}") from error


def _numbered(all_: list[Place], number: int, text: str, there: Seen) -> Place:
    if number >= len(all_):
        raise LotteryFLError(f"--devices {text}: number {number} is not there: torch sees {_told(there)} here")
    return all_[number]


def _told(there: Seen) -> str:
    if not there.kind:
        return "no accelerator"
    return f"{len(_slices(there)) or there.number} of {there.kind}, from {there.kind}:0 on"
