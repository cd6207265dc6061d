"""Devices that tests run on: the CPU, and what a machine has beside it (`make gpu-check`)."""

from inspect import unwrap

import pytest
import torch

from lotteryfl.common import accelerators

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]

ELSEWHERE = torch.device("meta")
"""A device that is not the CPU and computes nothing: whoever waits there for a number gets an error."""

CARD = torch.device("cuda:0")


def play_card(monkeypatch: pytest.MonkeyPatch, *, free: int, total: int, reserved: int = 0, allocated: int = 0) -> None:
    """Have `torch.accelerator` tell of CARD, with so many bytes of memory."""
    answers = {
        "current_accelerator": CARD,
        "get_memory_info": (free, total),
        "memory_reserved": reserved,
        "memory_allocated": allocated,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.accelerator, name, lambda *_device, answer=answer, **_options: answer)
    for asked in (accelerators.kind, accelerators._tells_of_memory):  # afterwards too they ask anew
        monkeypatch.setattr(accelerators, asked.__name__, unwrap(asked))
