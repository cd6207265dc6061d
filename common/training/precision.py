"""In what a training computes: autocast, the memory format of its weights, and compiled or not."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.owncode.usercode import first_line
from lotteryfl.common.training.recipe import TrainingSettings


def autocast(settings: TrainingSettings, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context of a forward and its loss."""
    if settings.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@contextmanager
def weights_in_format(model: nn.Module, settings: TrainingSettings) -> Iterator[None]:
    """Have the convolutions' weights in the memory format of the settings; as they were made on leaving."""
    if not settings.channels_last:
        yield
        return
    convert_conv2d_weight_memory_format(model, torch.channels_last)
    try:
        yield
    finally:
        convert_conv2d_weight_memory_format(model, torch.contiguous_format)


def compiled(model: nn.Module, settings: TrainingSettings) -> Callable[..., Any]:
    """Return what computes the model's outputs.

    What torch has compiled before would decide what it compiles now, and so the bits: each training starts from
    nothing, with code for each shape alone. It is not compiled anew for that: torch keeps it in files.
    """
    if not settings.compile:
        return model
    torch.compiler.reset()
    return torch.compile(model, dynamic=False)


def check_compiler(settings: TrainingSettings, device: torch.device) -> None:
    """Check that torch can compile here, by compiling a little.

    Raises:
        ExperimentError: it cannot.
    """
    if not settings.compile:
        return
    try:
        compiled(nn.ReLU(), settings)(torch.ones(1, 1, device=device))
    except Exception as error:  # a compiler that is missing or fails, a Python or a device that torch has none for
        raise ExperimentError(
            f"training.compile = True: torch.compile cannot be used here: {first_line(error) or type(error).__name__}"
        ) from error
