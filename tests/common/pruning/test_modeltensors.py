"""What is pruned is exactly zero, whatever it held."""

import pytest
import torch

from lotteryfl.common.pruning.modeltensors import zero_pruned


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("held", [2.5, -2.5, torch.nan, torch.inf, -torch.inf])
def test_pruned_entries_become_zero_and_kept_ones_stay(dtype: torch.dtype, held: float) -> None:
    tensor = torch.tensor([1.5, held, -3.0, held], dtype=dtype, requires_grad=True)
    zero_pruned(tensor, torch.tensor([1, 0, 1, 0], dtype=dtype))
    assert tensor.tolist() == [1.5, 0.0, -3.0, 0.0]
    assert not tensor.signbit()[1::2].any()


def test_a_kept_value_that_is_not_finite_stays_to_be_found() -> None:
    tensor = torch.tensor([torch.nan, torch.inf, torch.nan])
    zero_pruned(tensor, torch.tensor([1.0, 1.0, 0.0]))
    assert tensor[0].isnan()
    assert tensor[1:].tolist() == [torch.inf, 0.0]


def test_without_a_mask_nothing_is_zero() -> None:
    tensor = torch.ones(2)
    zero_pruned(tensor, None)
    assert tensor.tolist() == [1, 1]
