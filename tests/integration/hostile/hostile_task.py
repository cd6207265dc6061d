"""The gated task's clients with a wider model: its payloads have room for more than a handful of tensors."""

import sys
from pathlib import Path

from torch import nn

sys.path.append(str(Path(__file__).parents[1]))

from gated_task import client

__all__ = ["client", "model"]

_HIDDEN = 16_384


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(12, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 3))
