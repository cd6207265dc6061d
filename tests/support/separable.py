"""Data that a small network learns at once."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tests.support.architectures import CLASSES


def labels_for(inputs: Tensor) -> Tensor:
    return torch.arange(len(inputs)) % CLASSES


def problem(examples: int = 40) -> tuple[nn.Sequential, tuple[Tensor, Tensor]]:
    """Return a small network with dropout, and separable data."""
    torch.manual_seed(0)
    labels = torch.arange(examples) % CLASSES
    inputs = 3 * F.one_hot(labels, 6).float() + torch.randn(examples, 6)
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Dropout(0.2), nn.Linear(9, CLASSES))
    return model, (inputs, labels)
