"""The masks that are found on a device are those of a sort, and so those that the CPU finds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lotteryfl.common.packedmasks import pack_all
from lotteryfl.common.pruning.magnitude import Weight, count_pruned, counts_pruned, masks_without_smallest
from lotteryfl.common.pruning.modeltensors import zero_pruned
from lotteryfl.common.pruning.parameters import copy_model, named_masks, named_tensors
from lotteryfl.common.pruning.prune import get_prune_summary, prune_fixed_amount, rewind
from lotteryfl.common.pruning.regrowth import exchange_weights
from lotteryfl.common.pruning.selection import masks_above
from tests.common.pruning.test_magnitude import SHAPES, drawn
from tests.support.devices import DEVICES

DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float64])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("values", ["distinct", "ties", "non-finite"])
@settings(max_examples=60)
@given(shapes=SHAPES, share=st.floats(0, 1), dtype=DTYPES, seed=st.integers(0, 10**6), masked=st.booleans())
def test_masks_are_those_of_the_cpu(
    device: str, values: str, shapes: list[tuple[int, ...]], share: float, dtype: torch.dtype, seed: int, masked: bool
) -> None:
    weights = drawn(shapes, values, dtype, seed, masked=masked)
    pruned = sum(weight.pruned for weight in weights)
    count = round(share * (sum(weight.values.numel() for weight in weights) - pruned))
    if pruned + count == 0:
        return
    there = [(w.values.to(device), None if w.mask is None else w.mask.to(device)) for w in weights]
    compared_in = torch.promote_types(dtype, torch.float32)
    found = list(masks_above(there, pruned + count, compared_in))
    for mask, expected in zip(found, masks_without_smallest(weights, count), strict=True):
        assert mask.dtype is expected.dtype
        assert mask.is_contiguous()
        assert torch.equal(mask.cpu(), expected)
    counts = [*map(count_pruned, found), 0]
    assert counts_pruned([*found, None]) == counts
    assert sum(counts) == pruned + count


def ticket() -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 10))
    return model, {name: tensor.clone() for name, tensor in named_tensors(model).items()}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_a_ticket_is_pruned_regrown_and_rewound_on_a_device_as_on_the_cpu(device: str, scope: str) -> None:
    model, initial = ticket()
    there = copy_model(model, device)
    gradients = {name: torch.randn(tensor.shape) for name, tensor in initial.items() if tensor.is_floating_point()}
    for each in (model, there):
        where = next(each.parameters()).device
        prune_fixed_amount(each, 0.4, verbose=False, scope=scope)  # type: ignore[arg-type]
        prune_fixed_amount(each, 0.4, verbose=False, scope=scope)  # type: ignore[arg-type]
        exchange_weights(each, 0.3, {name: gradient.to(where) for name, gradient in gradients.items()})
        rewind(each, initial, everything=True)
    assert get_prune_summary(there) == get_prune_summary(model)
    packed = pack_all(named_masks(model))
    for name, mask in pack_all(named_masks(there)).items():
        assert mask.tobytes() == packed[name].tobytes()
    for name, tensor in named_tensors(model).items():
        assert torch.equal(named_tensors(there)[name].cpu(), tensor), name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("values", ["many", "many equal", "in order"])
def test_what_the_sample_does_not_bracket_is_found_too(device: str, values: str) -> None:
    """More weights than the sample takes: found in a bracket, in one with too many, and where the sample misleads."""
    weights = torch.randn(300_000, generator=torch.Generator().manual_seed(0))
    if values == "many equal":
        weights = weights.round()
    elif values == "in order":
        weights = weights.sort().values
    mask = (torch.arange(300_000) % 3 > 0).to(torch.float32)
    for rank in (100_000, 100_001, 150_000, 299_999, 300_000):
        (found,) = masks_above([(weights.to(device), mask.to(device))], rank, torch.float32)
        (expected,) = masks_without_smallest([Weight(weights, mask, 100_000)], rank - 100_000)
        assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_pruned_is_zero_on_a_device_whatever_it_was(device: str) -> None:
    values = torch.tensor([1.0, -0.0, torch.nan, torch.inf, -2.0], device=device)
    zero_pruned(values, torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0], device=device))
    assert values.cpu().numpy().tobytes() == torch.tensor([1.0, 0, 0, 0, 0]).numpy().tobytes()
