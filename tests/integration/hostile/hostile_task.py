"""The gated task's clients with a wider model: its payloads have room for more than a handful of tensors."""

from torch import nn

from tests.support.gated_task import client

__all__ = ["client", "model"]

_HIDDEN = 16_384


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(12, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 3))
