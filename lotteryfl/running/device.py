"""Which device to compute on."""

import torch

from lotteryfl.common.errors import LotteryFLError


def choose_device(text: str) -> torch.device:
    """Return the device that `--device` names; auto is the accelerator that torch finds, else the CPU.

    Raises:
        LotteryFLError: torch has no such device here.
    """
    if text == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(text)
        torch.ones(1, device=device).tolist()  # meta has tensors, and nothing in them
    except (RuntimeError, AssertionError) as error:
        raise LotteryFLError(f"--device {text}: cannot be used here: {str(error).splitlines()[0]}") from error
    return device
