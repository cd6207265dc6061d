"""Weights in fewer bits: how float32 values are narrowed to travel, and widened on arrival.

`bfloat16` and `float16` round to nearest. `int8` is block-wise quantization (Dettmers et al. 2022, "8-bit
Optimizers via Block-wise Quantization", section 2.1) with linear levels: of every 256 consecutive values each is
a whole multiple, −127 to 127, of the block's scale, which is its largest magnitude / 127. That is 8.125 bits a
value, off by at most half a scale.
"""

from typing import NoReturn

import torch
from torch import Tensor
from torch.nn import functional

from lotteryfl.common.experiment.settings import WireDtype

DTYPES: dict[WireDtype, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
}

SCALE_BLOCK = 256
"""Consecutive values that share a scale."""

LEVELS = 127
"""Largest multiple of a scale; −128 is not used, so that the levels are symmetric."""

MAX_SCALE = torch.finfo(torch.float32).max / (LEVELS + 1)
"""Every multiple of a scale up to this is finite."""


def number_of_scales(numel: int) -> int:
    """Return how many scales go with `numel` values as int8."""
    return -(-numel // SCALE_BLOCK)


def quantize(values: Tensor, wire_dtype: WireDtype) -> tuple[Tensor, Tensor | None]:
    """Return values as they travel.

    Args:
        values: float32, of any shape and device.
        wire_dtype: the form; float32 leaves the values as they are, uncopied.

    Returns:
        The values in the dtype, of the same shape; and for int8 their scales, float32 of shape
        [ceil(numel / 256)], in flat order; else None.

    Raises:
        ValueError: a value is not finite, or beyond the dtype's range.
    """
    if wire_dtype == "float32":
        return values, None
    if wire_dtype == "int8":
        return _to_int8(values)
    narrow = values.to(DTYPES[wire_dtype])
    fits = narrow.isfinite()
    if not bool(fits.all()):
        _refuse(values, fits, wire_dtype, torch.finfo(narrow.dtype).max)
    return narrow, None


def dequantize(values: Tensor, scales: Tensor | None = None, start: int = 0) -> Tensor:
    """Return values that have travelled as float32: exactly what they stand for.

    Args:
        values: of any shape; whole, or a part of what has travelled.
        scales: of the whole, where it is int8.
        start: flat index in the whole at which `values` begin.
    """
    wide = values.to(torch.float32)
    if scales is None:
        return wide
    first = start // SCALE_BLOCK
    needed = scales[first : number_of_scales(start + values.numel())]
    factors = needed.repeat_interleave(SCALE_BLOCK)[start - first * SCALE_BLOCK :][: values.numel()]
    return wide.mul_(factors.view(values.shape))


def _to_int8(values: Tensor) -> tuple[Tensor, Tensor]:
    numel = values.numel()
    count = number_of_scales(numel)
    flat = values.detach().reshape(-1)
    blocks = functional.pad(flat, (0, count * SCALE_BLOCK - numel)).view(count, SCALE_BLOCK)
    scales = torch.linalg.vector_norm(blocks, ord=torch.inf, dim=1) / LEVELS
    if not bool((scales <= MAX_SCALE).all()):
        _refuse(values, values.abs() / LEVELS <= MAX_SCALE, "int8", LEVELS * MAX_SCALE)
    divisors = torch.where(scales > 0, scales, 1).unsqueeze(1)  # a scale is 0 where all values round to 0
    levels = (blocks / divisors).round_().clamp_(-LEVELS, LEVELS).to(torch.int8)
    return levels.view(-1)[:numel].view(values.shape), scales


def _refuse(values: Tensor, fits: Tensor, wire_dtype: WireDtype, limit: float) -> NoReturn:
    index = int(fits.reshape(-1).logical_not().nonzero()[0])
    value = float(values.reshape(-1)[index])
    raise ValueError(f"value {value:g} at flat index {index}: {wire_dtype} carries finite values up to ±{limit:g}")
