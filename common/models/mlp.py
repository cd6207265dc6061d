"""Fully connected networks."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn


def mlp(hidden: Sequence[int], inputs: int, classes: int) -> nn.Sequential:
    """Build flatten → (linear → ReLU) for each hidden width → linear; the linear layers are fc1, fc2, ..."""
    widths = [inputs, *hidden]
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for number, (before, after) in enumerate(zip(widths, hidden, strict=False), start=1):
        layers[f"fc{number}"] = nn.Linear(before, after)
        layers[f"relu{number}"] = nn.ReLU()
    layers[f"fc{len(widths)}"] = nn.Linear(widths[-1], classes)
    return nn.Sequential(layers)


def image_mlp(hidden: Sequence[int], channels: int, size: int, classes: int) -> nn.Sequential:
    """Build `mlp` for square images."""
    return mlp(hidden, channels * size * size, classes)
