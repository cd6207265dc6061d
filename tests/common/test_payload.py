"""What the entries of a payload must be."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorfiles import assert_same, encode
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from common import masks, payload
from common.errors import PayloadError
from common.masks import BLOCK, PackedMask
from common.tensorfile import open_file, parse, save
from common.tensorstream import TensorStream
from common.tensortable import TensorSpec, TensorTable

Masks = dict[str, PackedMask]


TABLE = TensorTable(
    (
        TensorSpec("a.weight", torch.float32, (3, 5), "parameter", prunable=True),
        TensorSpec("b.bias", torch.float32, (3,), "parameter", prunable=False),
        TensorSpec("c.weight", torch.bfloat16, (2, 2, 2), "parameter", prunable=True),
        TensorSpec("d.steps", torch.int64, (), "buffer", prunable=False),
        TensorSpec("e.flags", torch.bool, (2,), "buffer", prunable=False),
        TensorSpec("f.weight", torch.float64, (0, 4), "parameter", prunable=True),
    )
)
densities = st.sampled_from([0.0, 0.3, 0.8, 1.0])
seeds = st.integers(0, 2**32 - 1)


def model_tensors(seed: int = 0) -> dict[str, Tensor]:
    random = np.random.default_rng(seed)
    return {spec.name: torch.from_numpy(random.normal(0, 9, spec.shape)).to(spec.dtype) for spec in TABLE}


def model_masks(density: float, seed: int = 0, names: tuple[str, ...] = ("a.weight", "c.weight", "f.weight")) -> Masks:
    random = np.random.default_rng(seed)
    return {name: masks.pack(torch.from_numpy(random.random(TABLE[name].shape) < density)) for name in names}


def fewer(old: Masks, density: float, seed: int) -> Masks:
    return {name: old[name] & packed for name, packed in model_masks(density, seed, tuple(old)).items()}


def over_the_wire(entries: dict[str, Tensor]) -> dict[str, Tensor]:
    return parse(encode(entries), "payload")


def same_masks(one: Masks, other: Masks) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(packed, other[name]) for name, packed in one.items())


@settings(deadline=None)
@given(densities, seeds, st.lists(st.sampled_from(["a.weight", "c.weight", "f.weight"]), unique=True))
def test_a_model_arrives_with_exact_zeros_where_it_is_pruned(density: float, seed: int, masked: list[str]) -> None:
    tensors, held = model_tensors(seed), model_masks(density, seed, tuple(masked))
    entries = payload.pack_tensors(TABLE, tensors, held)
    assert list(entries) == [f"{'kept' if s.name in held else 'dense'}/{s.name}" for s in TABLE]
    expected = dict(tensors)
    for name, packed in held.items():
        keep = masks.unpack(packed, TABLE[name].shape)
        expected[name] = torch.where(keep, tensors[name], torch.zeros((), dtype=TABLE[name].dtype))
        assert_same({"k": entries[f"kept/{name}"]}, {"k": tensors[name][keep]})
    arrived = payload.unpack_tensors(TABLE, over_the_wire(entries), held)
    assert list(arrived) == [spec.name for spec in TABLE]
    assert_same(arrived, expected)


@pytest.mark.parametrize("strided", [False, True])
def test_a_model_is_written_in_place_wherever_its_tensors_lie(strided: bool) -> None:
    held = model_masks(0.5)
    entries = payload.pack_tensors(TABLE, model_tensors(1), held)
    targets = {
        name: torch.full((*tensor.shape, 2), 7).to(tensor.dtype)[..., 0] if strided else tensor.clone()
        for name, tensor in model_tensors(2).items()
    }
    payload.unpack_into(TABLE, entries, held, targets)
    assert_same(targets, payload.unpack_tensors(TABLE, entries, held))


def test_nothing_is_written_of_entries_that_are_refused() -> None:
    targets = model_tensors(2)
    entries = payload.pack_tensors(TABLE, model_tensors(1), {})
    del entries["dense/" + TABLE.specs[-1].name]
    with pytest.raises(PayloadError, match="missing"):
        payload.unpack_into(TABLE, entries, {}, targets)
    assert_same(targets, model_tensors(2))


def test_unpacking_from_a_mapped_file(tmp_path: Path) -> None:
    held = model_masks(0.5)
    save(tmp_path / "result", payload.pack_tensors(TABLE, model_tensors(), held))
    entries = open_file(tmp_path / "result")
    payload.check_entries(TABLE, entries, held)
    assert_same(
        payload.unpack_tensors(TABLE, entries, held),
        payload.unpack_tensors(TABLE, payload.pack_tensors(TABLE, model_tensors(), held), held),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a.weight": None}, "a.weight: not among the tensors to send"),
        ({"a.weight": torch.ones(5, 3)}, r"a.weight: torch.float32 of shape \[5, 3\], expected .* \[3, 5\]"),
        ({"a.weight": torch.ones(3, 5).half()}, "a.weight: torch.float16 of .*, expected torch.float32"),
    ],
)
def test_tensors_that_are_not_the_tables_are_not_sent(change: dict[str, Tensor | None], message: str) -> None:
    tensors = {name: tensor for name, tensor in {**model_tensors(), **change}.items() if tensor is not None}
    with pytest.raises(ValueError, match=message):
        payload.pack_tensors(TABLE, tensors, {})


def test_a_mask_of_an_unknown_tensor_is_an_error() -> None:
    with pytest.raises(ValueError, match="zz: has a mask, but is not in the model's table"):
        payload.pack_tensors(TABLE, model_tensors(), {"zz": masks.pack(torch.ones(3))})
    with pytest.raises(ValueError, match="zz: has a mask"):
        payload.check_entries(TABLE, {}, {"zz": masks.pack(torch.ones(3))})


KEEP_SEVEN = {"a.weight": masks.pack(torch.arange(15) % 2)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kept/a.weight": None}, "kept/a.weight: missing"),
        ({"dense/d.steps": None}, "dense/d.steps: missing"),
        ({"dense/a.weight": torch.ones(3, 5)}, "'dense/a.weight': unexpected"),
        ({"kept/b.bias": torch.ones(3)}, "'kept/b.bias': unexpected"),
        ({"a.weight": torch.ones(3, 5)}, "'a.weight': unexpected"),
        ({"dense/zz": torch.ones(1)}, "'dense/zz': unexpected"),
        ({"dense/" + "z" * 9999 + "\n": torch.ones(1)}, r"'dense/z+\.\.\.z+.n': unexpected"),
        ({"kept/a.weight": torch.ones(8)}, r"kept/a.weight: torch.float32 of shape \[8\], expected .* \[7\]"),
        ({"kept/a.weight": torch.ones(6)}, r"kept/a.weight: torch.float32 of shape \[6\], expected .* \[7\]"),
        ({"kept/a.weight": torch.ones(7, 1)}, r"kept/a.weight: torch.float32 of shape \[7, 1\]"),
        ({"kept/a.weight": torch.ones(7).half()}, "kept/a.weight: torch.float16 .*, expected torch.float32"),
        ({"dense/b.bias": torch.ones(1)}, r"dense/b.bias: .* \[1\], expected .* \[3\]"),
        ({"dense/d.steps": torch.tensor(1.0)}, "dense/d.steps: torch.float32 .*, expected torch.int64"),
        (
            {"kept/a.weight": torch.tensor([1, 2, torch.nan, 4, torch.inf, 6, 7])},
            "kept/a.weight: value nan at flat index 2, expected finite",
        ),
        ({"dense/b.bias": torch.tensor([1, torch.inf, 0])}, "dense/b.bias: value inf at flat index 1"),
        (
            {"dense/c.weight": torch.tensor([1, 1, 1, 1, 1, 1, 1, -torch.inf]).view(2, 2, 2).bfloat16()},
            "dense/c.weight: value -inf at flat index 7",
        ),
    ],
)
def test_entries_that_are_not_the_tables_are_refused(change: dict[str, Tensor | None], message: str) -> None:
    good = payload.pack_tensors(TABLE, model_tensors(), KEEP_SEVEN)
    payload.check_entries(TABLE, good, KEEP_SEVEN)
    bad = {name: tensor for name, tensor in {**good, **change}.items() if tensor is not None}
    for take in (payload.check_entries, payload.unpack_tensors):
        with pytest.raises(PayloadError, match=message) as caught:
            take(TABLE, bad, KEEP_SEVEN)
        assert len(str(caught.value)) < 1000


def test_kept_values_where_the_receiver_expects_none() -> None:
    entries = payload.pack_tensors(TABLE, model_tensors(), KEEP_SEVEN)
    with pytest.raises(PayloadError, match=r"'kept/a\.weight': unexpected"):
        payload.unpack_tensors(TABLE, entries, {})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("position", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 2])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_bad_value_anywhere_is_found(dtype: torch.dtype, position: int, value: float) -> None:
    table = TensorTable((TensorSpec("w", dtype, (2 * BLOCK + 3,), "parameter", prunable=False),))
    tensor = torch.full((2 * BLOCK + 3,), torch.finfo(dtype).max, dtype=dtype)
    payload.check_entries(table, {"dense/w": tensor}, {})
    tensor[position] = value
    with pytest.raises(PayloadError, match=f"dense/w: value {value} at flat index {position}, expected finite"):
        payload.check_entries(table, {"dense/w": tensor}, {})


def test_checking_needs_no_memory_of_a_tensors_size() -> None:
    class Allocations(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            given_storages = {t.untyped_storage().data_ptr() for t in tree_leaves(args) if isinstance(t, Tensor)}
            for tensor in tree_leaves(result):
                if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in given_storages:
                    self.largest = max(self.largest, tensor.numel())
            return result

    table = TensorTable((TensorSpec("w", torch.float32, (8 * BLOCK,), "parameter", prunable=True),))
    held = {"w": masks.pack(torch.arange(8 * BLOCK) % 2)}
    kept = torch.ones(4 * BLOCK)
    with Allocations() as allocations:
        payload.check_entries(table, {"kept/w": kept}, held)
        kept[-1] = torch.nan
        with pytest.raises(PayloadError, match=f"flat index {4 * BLOCK - 1}"):
            payload.check_entries(table, {"kept/w": kept}, held)
    assert 0 < allocations.largest <= BLOCK


@settings(deadline=None)
@given(densities, densities, seeds)
def test_mask_updates(old_density: float, new_density: float, seed: int) -> None:
    old = model_masks(old_density, seed, ("a.weight", "f.weight"))
    new = {**fewer(old, new_density, seed + 1), "c.weight": model_masks(new_density, seed)["c.weight"]}
    entries = payload.pack_mask_update(new, old)
    for name in old:
        if np.array_equal(old[name], new[name]):
            assert f"mask/{name}" not in entries
        else:
            assert entries[f"mask/{name}"].numel() == masks.packed_size(masks.count(old[name]))
    assert entries["mask/c.weight"].numel() == 1  # dense before: all bits
    arrived = payload.unpack_mask_update(TABLE, over_the_wire(entries), old)
    assert list(arrived) == ["a.weight", "c.weight", "f.weight"]
    assert same_masks(arrived, new)


@settings(deadline=None)
@given(seeds, st.binary(min_size=1, max_size=1))
def test_an_updated_mask_is_a_subset_whatever_was_received(seed: int, byte: bytes) -> None:
    bits = torch.frombuffer(bytearray(byte), dtype=torch.uint8) & 0b1111111
    arrived = payload.unpack_mask_update(TABLE, {"mask/a.weight": bits}, KEEP_SEVEN)
    assert masks.is_subset(arrived["a.weight"], KEEP_SEVEN["a.weight"])
    assert masks.count(arrived["a.weight"]) == int(bits).bit_count()


def test_a_result_carries_mask_and_kept_values_together() -> None:
    new = fewer(KEEP_SEVEN, 0.5, 1)
    result = over_the_wire(
        {**payload.pack_mask_update(new, KEEP_SEVEN), **payload.pack_tensors(TABLE, model_tensors(), new)}
    )
    arrived = payload.unpack_mask_update(TABLE, result, KEEP_SEVEN)
    assert same_masks(arrived, new)
    payload.check_entries(TABLE, result, arrived)


def test_an_update_that_adds_or_drops_bits_is_not_sent() -> None:
    full = {"a.weight": masks.pack(torch.ones(15))}
    with pytest.raises(ValueError, match=r"a\.weight: the inner mask keeps elements that the outer"):
        payload.pack_mask_update(full, KEEP_SEVEN)
    with pytest.raises(ValueError, match=r"a\.weight: has a mask, and none in the update"):
        payload.pack_mask_update({}, KEEP_SEVEN)


@pytest.mark.parametrize(
    ("key", "bits", "message"),
    [
        ("mask/b.bias", [0], "'mask/b.bias': unexpected: not a prunable tensor of the model"),
        ("mask/zz", [0], "'mask/zz': unexpected: not a prunable tensor of the model"),
        ("mask/a.weight", [], "mask/a.weight: uint8 of shape .0.: a mask of 7 elements is 1 bytes"),
        ("mask/a.weight", [0, 0], "mask/a.weight: uint8 of shape .2.: a mask of 7 elements is 1 bytes"),
        ("mask/a.weight", [[0]], "mask/a.weight: uint8 of shape .1, 1.: a mask of 7 elements is 1 bytes"),
        ("mask/a.weight", [0x80], "mask/a.weight: last byte 0x80: bits from 7 on must be zero"),
        ("mask/c.weight", [0, 0], "mask/c.weight: uint8 of shape .2.: a mask of 8 elements is 1 bytes"),
    ],
)
def test_mask_entries_that_are_refused(key: str, bits: list[Any], message: str) -> None:
    entries = {key: torch.tensor(bits, dtype=torch.uint8)}
    with pytest.raises(PayloadError, match=message):
        payload.unpack_mask_update(TABLE, entries, KEEP_SEVEN)


def test_mask_entries_of_another_dtype() -> None:
    with pytest.raises(PayloadError, match=r"mask/a.weight: torch.bfloat16 .*, expected packed bits as torch.uint8"):
        payload.unpack_mask_update(TABLE, {"mask/a.weight": torch.ones(1).bfloat16()}, KEEP_SEVEN)


@settings(deadline=None)
@given(densities, seeds)
def test_whole_masks_and_their_digest(density: float, seed: int) -> None:
    held = model_masks(density, seed)
    blob = encode(payload.mask_tensors(held))
    assert same_masks(payload.masks_from_entries(TABLE, parse(blob, "mask")), held)
    assert payload.mask_digest(held) == hashlib.sha256(blob).hexdigest()
    assert payload.mask_digest(dict(reversed(held.items()))) == payload.mask_digest(held)


def test_a_saved_mask_has_its_digest_and_one_bit_changes_it(tmp_path: Path) -> None:
    held = model_masks(0.5)
    digest = payload.mask_digest(held)
    assert save(tmp_path / "mask", payload.mask_tensors(held)) == digest
    held["a.weight"][0] ^= 1
    assert payload.mask_digest(held) != digest
    assert payload.mask_digest({}) == ""


def test_a_mask_blob_holds_masks_alone() -> None:
    entries = {**payload.mask_tensors(KEEP_SEVEN), "dense/b.bias": torch.ones(3)}
    with pytest.raises(PayloadError, match=r"'dense/b\.bias': unexpected: not a mask"):
        payload.masks_from_entries(TABLE, entries)


@settings(deadline=None)
@given(densities, densities, seeds)
def test_no_payload_is_larger_than_the_tables_bound(old_density: float, new_density: float, seed: int) -> None:
    old = model_masks(old_density, seed)
    new = fewer(old, new_density, seed + 1)
    bound = payload.max_payload_bytes(TABLE)
    for before, after in ((old, new), ({}, old), ({}, {})):
        entries = {
            **payload.pack_mask_update(after, before),
            **payload.pack_tensors(TABLE, model_tensors(seed), after),
        }
        assert TensorStream(entries).size <= bound
    dense = sum(spec.nbytes for spec in TABLE)
    assert bound <= dense + 2 + 1 + 200 * 9 + 16


def test_the_bound_holds_for_names_that_json_writes_long() -> None:
    name = 'θ"\\\n' * 100
    table = TensorTable((TensorSpec(name, torch.float16, (1,) * 30, "parameter", prunable=True),))
    held = {name: masks.pack(torch.ones(1))}
    entries = {
        **payload.pack_tensors(table, {name: torch.ones((1,) * 30).half()}, {}),
        **payload.pack_mask_update(held, {}),
    }
    assert TensorStream(entries).size <= payload.max_payload_bytes(table)
