"""Masks as entries of a payload, and how large a payload can be."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import PayloadError
from lotteryfl.common.experiment.settings import WireDtype
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.tensors.file import parse, save
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.common.wire import payload
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.quantization import DTYPES
from lotteryfl.common.wire.table import TensorSpec, TensorTable
from tests.support.tensorfiles import encode
from tests.support.wiremodel import (
    KEEP_SEVEN,
    TABLE,
    densities,
    fewer,
    model_masks,
    model_tensors,
    over_the_wire,
    seeds,
)


def same_masks(one: Masks, other: Masks) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(packed, other[name]) for name, packed in one.items())


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
            assert entries[f"mask/{name}"].numel() == packedmasks.packed_size(packedmasks.count(old[name]))
    assert entries["mask/c.weight"].numel() == 1  # dense before: all bits
    arrived = payload.unpack_mask_update(TABLE, over_the_wire(entries), old)
    assert list(arrived) == ["a.weight", "c.weight", "f.weight"]
    assert same_masks(arrived, new)


@settings(deadline=None)
@given(seeds, st.binary(min_size=1, max_size=1))
def test_an_updated_mask_is_a_subset_whatever_was_received(seed: int, byte: bytes) -> None:
    bits = torch.frombuffer(bytearray(byte), dtype=torch.uint8) & 0b1111111
    arrived = payload.unpack_mask_update(TABLE, {"mask/a.weight": bits}, KEEP_SEVEN)
    assert packedmasks.is_subset(arrived["a.weight"], KEEP_SEVEN["a.weight"])
    assert packedmasks.count(arrived["a.weight"]) == int(bits).bit_count()


def test_a_result_carries_mask_and_kept_values_together() -> None:
    new = fewer(KEEP_SEVEN, 0.5, 1)
    result = over_the_wire(
        {**payload.pack_mask_update(new, KEEP_SEVEN), **WireFormat(TABLE, "float32").pack(model_tensors(), new)}
    )
    arrived = payload.unpack_mask_update(TABLE, result, KEEP_SEVEN)
    assert same_masks(arrived, new)
    WireFormat(TABLE, "float32").check(result, arrived)


def test_an_update_that_adds_or_drops_bits_is_not_sent() -> None:
    full = {"a.weight": packedmasks.pack(torch.ones(15))}
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
@given(densities, densities, seeds, st.sampled_from(list(DTYPES)))
def test_no_payload_is_larger_than_the_tables_bound(
    old_density: float, new_density: float, seed: int, wire_dtype: WireDtype
) -> None:
    old = model_masks(old_density, seed)
    new = fewer(old, new_density, seed + 1)
    bound = payload.max_payload_bytes(TABLE)
    for before, after in ((old, new), ({}, old), ({}, {})):
        entries = {
            **payload.pack_mask_update(after, before),
            **WireFormat(TABLE, wire_dtype).pack(model_tensors(seed), after),
        }
        assert TensorStream(entries).size <= bound
    dense = sum(spec.nbytes for spec in TABLE)
    assert bound <= dense + 2 + 1 + 3 * 4 + 200 * 12 + 16


def test_the_bound_holds_for_a_scale_beside_a_single_value() -> None:
    names = [f"{number:03}" for number in range(500)]
    table = TensorTable(tuple(TensorSpec(name, torch.float32, (), "parameter", prunable=True) for name in names))
    entries = WireFormat(table, "int8").pack(dict.fromkeys(names, torch.tensor(1.0)), {})
    assert len(entries) == 1000
    assert TensorStream(entries).size <= payload.max_payload_bytes(table)


def test_the_bound_holds_for_names_that_json_writes_long() -> None:
    name = 'θ"\\\n' * 100
    table = TensorTable((TensorSpec(name, torch.float16, (1,) * 30, "parameter", prunable=True),))
    held = {name: packedmasks.pack(torch.ones(1))}
    entries = {
        **WireFormat(table, "float32").pack({name: torch.ones((1,) * 30).half()}, {}),
        **payload.pack_mask_update(held, {}),
    }
    assert TensorStream(entries).size <= payload.max_payload_bytes(table)
