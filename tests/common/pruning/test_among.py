"""The largest magnitudes out of those in question, against a sort."""

import pytest
import torch

from lotteryfl.common.pruning.among import largest_among


@pytest.mark.parametrize("count", [0, 1, 7, 20, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_largest_of_those_in_question_over_all_tensors(count: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    values = [torch.randn(shape, generator=generator).to(dtype) for shape in ((4, 5), (30,))]
    among = [torch.rand(each.shape, generator=generator) < 0.5 for each in values]
    flat = torch.cat([each.abs().flatten() for each in values])
    there = torch.cat([each.flatten() for each in among]).nonzero().flatten()
    expected = torch.zeros(50, dtype=torch.bool)
    expected[there[flat[there].argsort(descending=True, stable=True)[:count]]] = True
    masks = largest_among(values, among, count)
    assert [(mask.dtype, mask.shape) for mask in masks] == [(torch.bool, each.shape) for each in values]
    assert torch.equal(torch.cat([mask.flatten() for mask in masks]), expected)


def test_of_equal_ones_the_last_are_taken_also_of_zeros() -> None:
    among = torch.tensor([True, True, False, True, False])
    (mask,) = largest_among([torch.tensor([0.0, 0, 1, 0, 0])], [among], 2)
    assert mask.tolist() == [False, True, False, True, False]
    (mask,) = largest_among([torch.zeros(5)], [among], 3)
    assert torch.equal(mask, among)
