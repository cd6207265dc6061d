import weakref
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lotteryfl.common.pruning import magnitude
from lotteryfl.common.pruning.magnitude import Weight, count_pruned, masks_without_smallest

SHAPES = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=3).map(tuple), min_size=1, max_size=4)


def competing(values: Tensor, mask: Tensor | None = None) -> Weight:
    return Weight(values, mask, count_pruned(mask))


def drawn(shapes: list[tuple[int, ...]], values: str, dtype: torch.dtype, seed: int, *, masked: bool) -> list[Weight]:
    generator = torch.Generator().manual_seed(seed)
    weights = []
    for shape in shapes:
        tensor = torch.randn(shape, generator=generator)
        if values != "distinct":
            tensor = (tensor * 2).round()
        if values == "non-finite":
            tensor[tensor == 1] = torch.nan
            tensor[tensor == -2] = -torch.inf
        mask = (torch.rand(shape, generator=generator) < 0.6).to(dtype) if masked else None
        weights.append(competing(tensor.to(dtype), mask))
    return weights


def sorted_oracle(weights: list[Weight], count: int) -> list[np.ndarray]:
    """Sort everything by (magnitude, flat index) and cut: the definition."""
    flat = np.concatenate([weight.values.double().abs().numpy().ravel() for weight in weights])
    flat[np.isnan(flat)] = np.inf
    kept = np.concatenate(
        [
            np.ones(weight.values.numel()) if weight.mask is None else weight.mask.double().numpy().ravel()
            for weight in weights
        ]
    )
    candidates = np.flatnonzero(kept)
    order = candidates[np.argsort(flat[candidates], kind="stable")]
    kept[order[:count]] = 0
    ends = np.cumsum([weight.values.numel() for weight in weights])
    return [part.reshape(weight.values.shape) for part, weight in zip(np.split(kept, ends[:-1]), weights, strict=True)]


def assert_same(masks: Iterable[Tensor], expected: list[np.ndarray]) -> None:
    for mask, wanted in zip(masks, expected, strict=True):
        assert np.array_equal(mask.double().numpy(), wanted)


@pytest.mark.parametrize("values", ["distinct", "ties", "non-finite"])
@pytest.mark.parametrize(("block", "sample"), [(4, 3), (5, 1 << 16), (1 << 18, 1 << 16)])
@settings(deadline=None, max_examples=60)
@given(shapes=SHAPES, share=st.floats(0, 1), seed=st.integers(0, 10**6), masked=st.booleans())
def test_masks_are_those_of_a_sort(
    values: str, block: int, sample: int, shapes: list[tuple[int, ...]], share: float, seed: int, masked: bool
) -> None:
    weights = drawn(shapes, values, torch.float32, seed, masked=masked)
    left = sum(weight.values.numel() - weight.pruned for weight in weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(magnitude, "_BLOCK", block)
        patch.setattr(magnitude, "_SAMPLE", sample)
        masks = list(masks_without_smallest(weights, round(share * left)))
    assert_same(masks, sorted_oracle(weights, round(share * left)))


def test_a_misleading_sample_costs_time_but_not_the_result() -> None:
    """Sampled entries are all large, all others small: the bracket misses on either side."""
    stride = (200_000 // magnitude._SAMPLE) | 1
    values = torch.rand(200_000)
    values[::stride] += 10
    for weights in ([competing(values)], [competing(11 - values)]):
        for count in (1, 50_000, 100_000, 199_999):
            assert_same(masks_without_smallest(weights, count), sorted_oracle(weights, count))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes_compete_by_value(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weights = [competing(torch.randn(40, 3)), competing(torch.randn(50).to(dtype))]
    masks = list(masks_without_smallest(weights, 60))
    assert [mask.dtype for mask in masks] == [torch.float32, dtype]
    assert_same(masks, sorted_oracle(weights, 60))


def test_flat_order_is_the_logical_one_in_any_memory_format() -> None:
    values = torch.ones(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    (mask,) = masks_without_smallest([competing(values)], 5)
    assert mask.is_contiguous()
    assert mask.flatten().tolist() == [0] * 5 + [1] * 19


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_pruned_entries_are_counted_exactly(dtype: torch.dtype) -> None:
    mask = torch.ones((1 << 24) + 3, dtype=dtype)
    mask[:: (1 << 23)] = 0
    assert count_pruned(mask) == 3
    assert count_pruned(None) == 0


@pytest.mark.parametrize("held", [0.0, -3.0, torch.nan, torch.inf])
@pytest.mark.parametrize("count", range(5))
def test_among_zeros_what_is_pruned_already_counts_for_nothing(held: float, count: int) -> None:
    """Whatever it holds: the threshold is 0, the magnitude that stands for pruned."""
    first = competing(torch.tensor([0.0, held, 0.0]), torch.tensor([1.0, 0.0, 1.0]))
    second = competing(torch.tensor([held, 0.0, -0.0, 2.0]), torch.tensor([0.0, 1.0, 1.0, 1.0]))
    zeros = [0.0] * count + [1.0] * (4 - count)
    masks = [mask.tolist() for mask in masks_without_smallest([first, second], count)]
    assert masks == [[zeros[0], 0, zeros[1]], [0, zeros[2], zeros[3], 1]]


def test_an_old_mask_is_let_go_when_the_new_one_is_made() -> None:
    old = [torch.ones(8), torch.ones(8)]
    alive = [weakref.ref(mask) for mask in old]
    masks = masks_without_smallest((competing(torch.rand(8), old.pop(0)) for _ in range(2)), 4)
    assert next(masks).shape == (8,)
    assert alive[0]() is None
    assert alive[1]() is not None
