"""Packed masks against plain boolean arrays, at sizes around the byte and the block."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import PayloadError
from lotteryfl.common.packedmasks import BLOCK, PackedMask
from tests.support.devices import DEVICES

EDGES = [0, 1, 7, 8, 9, 15, 16, 17, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 8, 2 * BLOCK + 7]
DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]
numels = st.one_of(st.integers(0, 70), st.sampled_from(EDGES))
densities = st.sampled_from([0.0, 0.02, 0.2, 0.9, 1.0])
seeds = st.integers(0, 2**32 - 1)


def random_mask(numel: int, density: float, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(numel) < density)


def random_values(numel: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Every bit pattern that the dtype has: NaN, -0.0 and subnormals among them."""
    if dtype is torch.bool:
        return random_mask(numel, 0.5, seed)
    data = np.random.default_rng(seed).bytes(numel * dtype.itemsize)
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)


def raw(values: Tensor) -> npt.NDArray[np.uint8]:
    """One row of bytes for each value: torch's own indexing changes some NaN of float16."""
    return values.view(torch.uint8).numpy().reshape(values.numel(), values.itemsize)


def same_bits(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.view(torch.uint8), other.view(torch.uint8))


def test_bit_layout_by_hand() -> None:
    mask = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 1]], dtype=torch.bool)
    packed = packedmasks.pack(mask)
    assert packed.dtype == np.uint8
    assert packed.tolist() == [0b10000101, 0b1]
    assert torch.equal(packedmasks.unpack(packed, (3, 3)), mask)
    assert packedmasks.count(packed) == 4


def test_a_float_mask_keeps_what_is_not_zero() -> None:
    assert packedmasks.pack(torch.tensor([1.0, 0.0, -0.0, 0.5])).tolist() == [0b1001]


def test_a_mask_of_no_dimensions() -> None:
    packed = packedmasks.pack(torch.tensor(True))
    assert packed.tolist() == [1]
    assert packedmasks.unpack(packed, ()).shape == ()


@settings(deadline=None)
@given(numels, densities, seeds)
def test_unpack_is_the_inverse_of_pack(numel: int, density: float, seed: int) -> None:
    mask = random_mask(numel, density, seed)
    packed = packedmasks.pack(mask)
    assert packed.shape == (packedmasks.packed_size(numel),)
    packedmasks.check(packed, numel, "w")
    assert torch.equal(packedmasks.unpack(packed, (numel,)), mask)
    assert packedmasks.count(packed) == int(mask.sum())


@pytest.mark.parametrize("shape", [(7,), (17,), (3, 3)])
def test_unpack_refuses_a_shape_of_another_size(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="mask of shape"):
        packedmasks.unpack(np.zeros(2 if shape != (3, 3) else 3, np.uint8), shape)


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (np.zeros(1, np.uint8), r"fc\.weight: uint8 of shape \[1\]: a mask of 12 elements is 2 bytes"),
        (np.zeros(3, np.uint8), r"fc\.weight: uint8 of shape \[3\]: a mask of 12 elements is 2 bytes"),
        (np.zeros((2, 1), np.uint8), r"fc\.weight: uint8 of shape \[2, 1\]"),
        (np.zeros(2, np.int8), r"fc\.weight: int8 of shape \[2\]"),
        (np.array([0, 0x10], np.uint8), r"fc\.weight: last byte 0x10: bits from 4 on must be zero"),
        (np.array([0, 0x80], np.uint8), r"fc\.weight: last byte 0x80: bits from 4 on must be zero"),
    ],
)
def test_check_names_the_tensor_and_the_value(packed: PackedMask, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        packedmasks.check(packed, 12, "fc.weight")


@settings(deadline=None)
@given(st.integers(1, 64), st.data())
def test_check_refuses_every_stray_bit(numel: int, data: st.DataObject) -> None:
    packed = packedmasks.pack(torch.ones(numel))
    packedmasks.check(packed, numel, "w")
    if numel % 8:
        packed[-1] |= 1 << data.draw(st.integers(numel % 8, 7))
        with pytest.raises(PayloadError, match="must be zero"):
            packedmasks.check(packed, numel, "w")


@settings(deadline=None)
@given(numels, densities, st.sampled_from(DTYPES), seeds)
def test_gather_is_boolean_indexing_and_scatter_its_inverse(
    numel: int, density: float, dtype: torch.dtype, seed: int
) -> None:
    mask, values = random_mask(numel, density, seed), random_values(numel, dtype, seed)
    kept = packedmasks.gather(values, packedmasks.pack(mask))
    assert np.array_equal(raw(kept), raw(values)[mask.numpy()])
    out = random_values(numel, dtype, seed + 1)
    packedmasks.scatter(kept, packedmasks.pack(mask), out)
    assert np.array_equal(raw(out), np.where(mask.numpy()[:, None], raw(values), 0))


@pytest.mark.parametrize("device", DEVICES)
@settings(deadline=None)
@given(numels, densities, st.sampled_from(DTYPES), seeds)
def test_what_a_device_makes_of_masks_is_what_the_cpu_makes(
    device: str, numel: int, density: float, dtype: torch.dtype, seed: int
) -> None:
    mask, values = random_mask(numel, density, seed), random_values(numel, dtype, seed)
    packed, there = packedmasks.pack(mask), values.to(device)
    assert packedmasks.bits_of(mask.to(device, torch.float32)).cpu().numpy().tobytes() == packed.tobytes()
    spread = packedmasks.mask_of(torch.from_numpy(packed).to(device), (numel, 1))
    assert torch.equal(spread.cpu(), mask.view(-1, 1))
    kept = packedmasks.gather_there(there, spread.view(-1), packedmasks.count(packed))
    assert np.array_equal(raw(kept.cpu()), raw(values)[mask.numpy()])
    out = random_values(numel, dtype, seed + 1).to(device)
    packedmasks.scatter_there(kept, spread.view(-1), out)
    assert np.array_equal(raw(out.cpu()), np.where(mask.numpy()[:, None], raw(values), 0))


@pytest.mark.parametrize("device", DEVICES)
def test_masks_by_name_are_packed_and_unpacked_on_a_device(device: str) -> None:
    masks = {name: random_mask(numel, 0.3).view(2, -1) for name, numel in (("a", 22), ("b", 8))}
    packed = packedmasks.pack_all({name: mask.to(device, torch.float32) for name, mask in masks.items()})
    assert list(packed) == ["a", "b"]
    for name, mask in masks.items():
        assert packed[name].tobytes() == packedmasks.pack(mask).tobytes() == packedmasks.pack(mask.to(device)).tobytes()
        assert torch.equal(packedmasks.unpack(packed[name], mask.shape, torch.device(device)).cpu(), mask)


@pytest.mark.parametrize("device", DEVICES)
def test_gather_and_scatter_of_many_dimensions(device: str) -> None:
    mask = random_mask(BLOCK + 12, 0.3).view(4, -1)
    values = torch.randn(mask.shape, device=device, requires_grad=True)
    kept = packedmasks.gather(values, packedmasks.pack(mask))
    assert kept.device == values.device
    assert torch.equal(kept.cpu(), values.detach().cpu()[mask])
    out = torch.full_like(values, torch.nan)
    packedmasks.scatter(kept, packedmasks.pack(mask), out)
    assert torch.equal(out, values.detach() * mask.to(device))


def test_gather_reads_strided_tensors_in_their_flat_order() -> None:
    values = torch.arange(12.0).view(3, 4).t()
    mask = values > 4
    assert torch.equal(packedmasks.gather(values, packedmasks.pack(mask)), values[mask])


def test_gather_copies() -> None:
    values = torch.ones(8)
    packedmasks.gather(values, packedmasks.pack(torch.ones(8))).zero_()
    assert torch.equal(values, torch.ones(8))


def test_wrong_arguments_of_gather_and_scatter() -> None:
    packed = packedmasks.pack(torch.ones(8))
    with pytest.raises(ValueError, match=r"mask of shape \[1\], expected \[2\]"):
        packedmasks.gather(torch.ones(9), packed)
    with pytest.raises(TypeError, match=r"torch\.complex128 has 16 bytes"):
        packedmasks.gather(torch.ones(8, dtype=torch.complex128), packed)
    with pytest.raises(ValueError, match=r"kept has shape \[7\], expected \[8\]"):
        packedmasks.scatter(torch.ones(7), packed, torch.empty(8))
    with pytest.raises(ValueError, match=r"kept is torch\.float64 on cpu, expected torch\.float32"):
        packedmasks.scatter(torch.ones(8, dtype=torch.float64), packed, torch.empty(8))
    with pytest.raises(ValueError, match="expected a contiguous tensor"):
        packedmasks.scatter(torch.ones(8), packed, torch.empty(4, 2).t())


@settings(deadline=None)
@given(numels, densities, densities, seeds)
def test_subset_coding(numel: int, outer_density: float, inner_density: float, seed: int) -> None:
    outer = random_mask(numel, outer_density, seed)
    inner = outer & random_mask(numel, inner_density, seed + 1)
    packed_outer, packed_inner = packedmasks.pack(outer), packedmasks.pack(inner)
    assert packedmasks.is_subset(packed_inner, packed_outer)
    bits = packedmasks.encode_subset(packed_inner, packed_outer)
    assert bits.tolist() == packedmasks.pack(inner[outer]).tolist()
    assert packedmasks.decode_subset(bits, packed_outer).tolist() == packed_inner.tolist()


@settings(deadline=None)
@given(numels, densities, seeds)
def test_whatever_is_decoded_is_a_subset(numel: int, density: float, seed: int) -> None:
    outer = packedmasks.pack(random_mask(numel, density, seed))
    bits = packedmasks.pack(random_mask(packedmasks.count(outer), 0.5, seed + 1))
    decoded = packedmasks.decode_subset(bits, outer)
    packedmasks.check(decoded, numel, "w")
    assert packedmasks.is_subset(decoded, outer)
    assert packedmasks.count(decoded) == packedmasks.count(bits)


@settings(deadline=None)
@given(numels, densities, densities, seeds)
def test_is_subset_is_set_inclusion(numel: int, one: float, two: float, seed: int) -> None:
    inner, outer = random_mask(numel, one, seed), random_mask(numel, two, seed + 1)
    expected = bool((inner <= outer).all())
    assert packedmasks.is_subset(packedmasks.pack(inner), packedmasks.pack(outer)) == expected
    if not expected:
        with pytest.raises(ValueError, match="the outer mask has pruned"):
            packedmasks.encode_subset(packedmasks.pack(inner), packedmasks.pack(outer))


def test_masks_of_different_lengths_do_not_compare() -> None:
    with pytest.raises(ValueError, match="masks of 1 and 2 bytes"):
        packedmasks.is_subset(packedmasks.pack(torch.ones(8)), packedmasks.pack(torch.ones(9)))


def test_decode_refuses_bits_of_another_count() -> None:
    with pytest.raises(ValueError, match="mask of shape"):
        packedmasks.decode_subset(np.zeros(2, np.uint8), packedmasks.pack(torch.ones(8)))


def test_no_operation_changes_a_mask_or_its_values() -> None:
    outer, inner = (
        packedmasks.pack(random_mask(100, 0.5)),
        packedmasks.pack(random_mask(100, 0.5) & random_mask(100, 0.5, 1)),
    )
    values = torch.randn(100)
    before = outer.copy(), inner.copy(), values.clone()
    kept = packedmasks.gather(values, outer)
    packedmasks.scatter(kept, outer, torch.empty(100))
    packedmasks.decode_subset(packedmasks.encode_subset(inner, outer), outer)
    packedmasks.unpack(outer, (100,)).logical_not_()
    assert np.array_equal(outer, before[0])
    assert np.array_equal(inner, before[1])
    assert torch.equal(values, before[2])
