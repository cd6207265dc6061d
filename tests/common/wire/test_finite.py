"""Whether values are finite, wherever the one that is not lies."""

import pytest
import torch
from torch import Tensor

from lotteryfl.common.wire.finite import _TOGETHER, all_finite, are_finite_there
from tests.support.devices import DEVICES


def tensors() -> list[Tensor]:
    large = torch.zeros(_TOGETHER + 1)
    halves = [torch.zeros(_TOGETHER // 2 + 1, dtype=dtype) for dtype in (torch.float16, torch.bfloat16)]
    return [large, torch.zeros(3, 2), torch.zeros(()), *halves, torch.zeros(0), torch.zeros(5, dtype=torch.float64)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_value_of_many_is_found_where_they_are(value: float, device: str) -> None:
    there = [tensor.to(device) for tensor in tensors() if tensor.numel()]
    assert are_finite_there(there)
    assert are_finite_there([])
    for tensor in there:
        kept = tensor.view(-1)[-1].clone()
        tensor.view(-1)[-1] = value
        assert not are_finite_there(there)
        assert not all_finite(there)
        tensor.view(-1)[-1] = kept


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_value_in_any_tensor_is_found(value: float) -> None:
    assert all_finite([*tensors(), torch.arange(3)])
    for index, tensor in enumerate(tensors()):
        if tensor.numel():
            spoilt = tensors()
            spoilt[index].view(-1)[-1] = value
            assert not all_finite(spoilt)


def test_the_largest_values_are_finite_together() -> None:
    assert all_finite([torch.full((9,), torch.finfo(torch.float32).max) for _ in range(9)])
