"""Narrowed weights: the nearest value that the dtype has, from any place of the whole, or an error."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lotteryfl.common.experiment.settings import WireDtype
from lotteryfl.common.wire.quantization import DTYPES, LEVELS, MAX_SCALE, SCALE_BLOCK, dequantize, quantize

NARROW = [dtype for dtype in DTYPES if dtype != "float32"]
LARGEST = torch.finfo(torch.float32).max
sizes = st.sampled_from([0, 1, 2, SCALE_BLOCK - 1, SCALE_BLOCK, SCALE_BLOCK + 1, 5 * SCALE_BLOCK + 17])
seeds = st.integers(0, 2**32 - 1)


def values_of(numel: int, seed: int) -> Tensor:
    """Magnitudes that differ from block to block by orders, some blocks all zeros."""
    random = np.random.default_rng(seed)
    orders = 10.0 ** random.integers(-20, 4, numel // SCALE_BLOCK + 1).repeat(SCALE_BLOCK)[:numel]
    orders[random.integers(numel // SCALE_BLOCK + 1) * SCALE_BLOCK :][:SCALE_BLOCK] = 0
    return torch.from_numpy((random.normal(0, 1, numel) * orders).astype(np.float32))


@settings(deadline=None)
@given(sizes, seeds)
def test_int8_is_the_nearest_multiple_of_the_blocks_scale(numel: int, seed: int) -> None:
    values = values_of(numel, seed)
    levels, scales = quantize(values, "int8")
    assert scales is not None
    assert (levels.dtype, scales.dtype) == (torch.int8, torch.float32)
    assert scales.shape == (math.ceil(numel / SCALE_BLOCK),)
    arrived = dequantize(levels, scales)
    for block, scale in enumerate(scales.double().tolist()):
        part = slice(block * SCALE_BLOCK, (block + 1) * SCALE_BLOCK)
        exact = values[part].double().numpy()
        assert scale == pytest.approx(np.abs(exact).max() / LEVELS, rel=1e-6, abs=0)
        nearest = np.round(exact / scale) if scale else np.zeros_like(exact)
        halfway = np.abs(np.abs(exact / (scale or 1) - nearest) - 0.5) < 1e-4
        assert np.array_equal(levels[part].numpy()[~halfway], nearest[~halfway])
        assert np.abs(arrived[part].double().numpy() - exact).max() <= scale * 0.5001
        assert np.array_equal(arrived[part].numpy(), levels[part].numpy() * np.float32(scale))


@settings(deadline=None)
@given(st.lists(st.floats(-65504, 65504, width=32)), st.sampled_from(["bfloat16", "float16"]))
def test_half_precision_is_the_nearest_value(numbers: list[float], wire_dtype: WireDtype) -> None:
    values = torch.tensor(numbers, dtype=torch.float32)
    narrow, scales = quantize(values, wire_dtype)
    assert (narrow.dtype, scales) == (DTYPES[wire_dtype], None)
    arrived = dequantize(narrow)
    assert arrived.dtype is torch.float32
    if wire_dtype == "float16":
        assert np.array_equal(arrived.numpy(), values.numpy().astype(np.float16).astype(np.float32))
    else:  # float32's bits with the lower half rounded off, to even
        bits = values.numpy().view(np.uint32).astype(np.uint64)
        rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32)
        assert np.array_equal(arrived.numpy().view(np.uint32), rounded)


@settings(deadline=None)
@given(seeds, st.integers(0, 3 * SCALE_BLOCK), st.integers(0, 3 * SCALE_BLOCK))
def test_a_part_is_widened_as_the_whole_is(seed: int, start: int, length: int) -> None:
    levels, scales = quantize(values_of(3 * SCALE_BLOCK - 5, seed), "int8")
    part = slice(start, start + length)
    assert torch.equal(dequantize(levels[part], scales, start), dequantize(levels, scales)[part])


def test_shapes_stay_and_float32_is_not_copied() -> None:
    values = torch.randn(3, 0, 2), torch.randn(20, 30), torch.tensor(-3.5), torch.randn(30, 20).T
    for wire_dtype in DTYPES:
        for tensor in values:
            before = tensor.clone()
            narrow, scales = quantize(tensor, wire_dtype)
            assert narrow.shape == dequantize(narrow, scales).shape == tensor.shape
            assert (narrow is tensor) == (wire_dtype == "float32")
            torch.testing.assert_close(dequantize(narrow, scales), tensor, rtol=0.01, atol=0.02)
            assert torch.equal(tensor, before)


@pytest.mark.parametrize("wire_dtype", NARROW)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, LARGEST, -LARGEST])
@pytest.mark.parametrize("position", [0, SCALE_BLOCK, 3 * SCALE_BLOCK - 1])
def test_a_value_out_of_range_is_an_error_that_says_where(wire_dtype: WireDtype, value: float, position: int) -> None:
    values = torch.ones(3, SCALE_BLOCK)
    values.view(-1)[position] = value
    message = rf"value {value:g} at flat index {position}: {wire_dtype} carries finite values up to ±"
    with pytest.raises(ValueError, match=message.replace("+", r"\+")):
        quantize(values, wire_dtype)


@pytest.mark.parametrize(
    ("wire_dtype", "limit"),
    [("float16", 65504.0), ("bfloat16", torch.finfo(torch.bfloat16).max), ("int8", LEVELS * MAX_SCALE)],
)
def test_the_limit_itself_arrives(wire_dtype: WireDtype, limit: float) -> None:
    limit = float(np.float32(limit))
    narrow, scales = quantize(torch.tensor([limit, -limit, 0.0]), wire_dtype)
    torch.testing.assert_close(dequantize(narrow, scales), torch.tensor([limit, -limit, 0.0]), rtol=1e-6, atol=0)
    with pytest.raises(ValueError, match=wire_dtype):
        quantize(torch.tensor([limit * 1.01 if limit < LARGEST / 1.01 else LARGEST]), wire_dtype)


def test_every_level_of_the_largest_scale_is_finite() -> None:
    levels = torch.arange(-LEVELS, LEVELS + 1).to(torch.int8)
    assert dequantize(levels, torch.tensor([MAX_SCALE])).isfinite().all()
    assert float(np.float32(MAX_SCALE)) == MAX_SCALE


def test_values_too_small_for_a_scale_become_zero() -> None:
    levels, scales = quantize(torch.full((4,), 1e-45), "int8")
    assert dequantize(levels, scales).tolist() == [0, 0, 0, 0]
