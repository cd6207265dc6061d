"""Devices that tests run on: the CPU, and what a machine has beside it (`make gpu-check`)."""

import pytest
import torch

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]

ELSEWHERE = torch.device("meta")
"""A device that is not the CPU and computes nothing: whoever waits there for a number gets an error."""
