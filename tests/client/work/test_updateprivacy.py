"""An update is scaled down to its bound and made noisy, where its mask keeps it and nowhere else."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from lotteryfl.client.work.updateprivacy import protect_update
from lotteryfl.common import packedmasks
from lotteryfl.common.packedmasks import PackedMask
from lotteryfl.common.pruning.parameters import named_tensors
from lotteryfl.common.wire.table import TensorTable


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))


TABLE = TensorTable.of(model())


def drawn(seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        spec.name: torch.randn(spec.shape, generator=random).to(spec.dtype)
        if spec.dtype.is_floating_point
        else torch.tensor(seed)
        for spec in TABLE
    }


def kept_masks() -> tuple[dict[str, Tensor], dict[str, PackedMask]]:
    random = torch.Generator().manual_seed(5)
    masks = {spec.name: torch.rand(spec.shape, generator=random) < 0.5 for spec in TABLE if spec.prunable}
    return masks, {name: packedmasks.pack(mask) for name, mask in masks.items()}


def flat_update(after: Mapping[str, Tensor], before: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> np.ndarray:
    """What aggregation sees of it, float64."""
    parts = []
    for spec in TABLE:
        if spec.dtype.is_floating_point:
            difference = after[spec.name].double().numpy() - before[spec.name].double().numpy()
            parts.append(difference[masks[spec.name].numpy()] if spec.name in masks else difference.reshape(-1))
    return np.concatenate(parts)


@pytest.mark.parametrize("bound", [0.5, 3.0])
def test_a_large_update_keeps_its_direction_and_has_the_norm_of_the_bound(bound: float) -> None:
    start, after = drawn(1), drawn(2)
    masks, packed = kept_masks()
    trained = {name: tensor.clone() for name, tensor in after.items()}
    norm = protect_update(TABLE, after, start, packed, clip_norm=bound)
    expected = flat_update(trained, start, masks)
    assert norm == pytest.approx(np.linalg.norm(expected), rel=1e-12)
    assert norm > bound
    clipped = flat_update(after, start, masks)
    assert np.linalg.norm(clipped) == pytest.approx(bound, rel=1e-6)
    np.testing.assert_allclose(clipped, expected * bound / norm, atol=1e-6)
    for name, mask in masks.items():
        assert torch.equal(after[name][~mask], trained[name][~mask])
    assert torch.equal(after["1.num_batches_tracked"], trained["1.num_batches_tracked"])


def test_what_a_mask_does_not_keep_uses_up_nothing_of_the_bound() -> None:
    start, (masks, packed) = drawn(1), kept_masks()
    after = {name: tensor.clone() for name, tensor in start.items()}
    for name, mask in masks.items():
        after[name][~mask] = 0.0  # pruned
    after["2.bias"] += 0.01
    same = {name: tensor.clone() for name, tensor in after.items()}
    protect_update(TABLE, after, start, packed, clip_norm=1.0)
    assert all(torch.equal(after[name], same[name]) for name in same)


def test_an_update_within_the_bound_stays_bit_for_bit() -> None:
    start = drawn(1)
    after = {name: tensor + 0.001 if tensor.is_floating_point() else tensor for name, tensor in start.items()}
    same = {name: tensor.clone() for name, tensor in after.items()}
    protect_update(TABLE, after, start, {}, clip_norm=1.0)
    assert all(torch.equal(after[name], same[name]) for name in same)


def test_the_noise_is_of_its_deviation_and_only_where_the_mask_keeps() -> None:
    table = TensorTable.of(nn.Linear(400, 300))
    start = {spec.name: torch.zeros(spec.shape) for spec in table}
    kept = torch.rand(300, 400, generator=torch.Generator().manual_seed(0)) < 0.5
    after = {name: tensor.clone() for name, tensor in start.items()}
    source = np.random.default_rng(1).bytes
    protect_update(table, after, start, {"weight": packedmasks.pack(kept)}, clip_norm=2.0, deviation=3.0, source=source)
    assert not after["weight"][~kept].any()
    assert stats.kstest(after["weight"][kept].numpy(), stats.norm(0, 3).cdf).pvalue > 0.01


def test_what_is_not_finite_stays_so_and_is_found_later() -> None:
    start, after = drawn(1), drawn(2)
    after["0.weight"][0, 0] = torch.nan
    protect_update(TABLE, after, start, {}, clip_norm=1.0, deviation=1.0)
    assert after["0.weight"].isnan().any()


def test_named_tensors_of_a_model_are_changed_in_place() -> None:
    net = nn.Linear(3, 2)
    start = {name: tensor - 1 for name, tensor in named_tensors(net).items()}
    protect_update(TensorTable.of(net), named_tensors(net), start, {}, clip_norm=0.5)
    after = torch.cat([tensor.flatten() for tensor in named_tensors(net).values()])
    before = torch.cat([tensor.flatten() for tensor in start.values()])
    assert float((after - before).norm()) == pytest.approx(0.5, rel=1e-5)


class Narrow(Tensor):
    """A tensor as on a device without float64, as Apple's: what is wider has to leave the device first."""

    @classmethod
    def __torch_function__(cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.cpu:
            return args[0].as_subclass(Tensor)
        if func is Tensor.double or any(value is torch.float64 for value in (*args, *kwargs.values())):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return super().__torch_function__(func, types, args, kwargs)


def test_a_device_without_float64_gives_the_same() -> None:
    start, masks = drawn(1), kept_masks()[1]
    expected = drawn(2)
    protect_update(TABLE, expected, start, masks, clip_norm=0.5, deviation=0.1, source=bytes)
    found = {name: tensor.as_subclass(Narrow) for name, tensor in drawn(2).items()}
    narrow = {name: tensor.as_subclass(Narrow) for name, tensor in start.items()}
    protect_update(TABLE, found, narrow, masks, clip_norm=0.5, deviation=0.1, source=bytes)
    assert all(torch.equal(found[name].as_subclass(Tensor), expected[name]) for name in expected)
