"""Masks coded by their density: back bit for bit, near their entropy, and nothing passes but what was coded so."""

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import ExperimentError, PayloadError
from lotteryfl.common.packedmasks import PackedMask
from lotteryfl.common.wire import maskcoding, payload
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.table import TensorSpec, TensorTable
from tests.support.wiremodel import over_the_wire

pytest.importorskip("constriction")

NUMEL = 1001


def random_mask(density: float, seed: int, numel: int = NUMEL) -> PackedMask:
    return np.packbits(np.random.default_rng(seed).random(numel) < density, bitorder="little")


def coded_mask(density: float = 0.1, seed: int = 0, numel: int = NUMEL) -> PackedMask:
    coded = maskcoding.encode(random_mask(density, seed, numel))
    assert coded is not None
    return coded


densities = st.sampled_from([0.0, 0.001, 0.05, 0.3, 0.5, 0.8, 0.99, 1.0])
seeds = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(densities, seeds, st.integers(1, 40_000) | st.sampled_from([1, 8, 64, 65, 8 * packedmasks.BLOCK + 9]))
def test_a_mask_comes_back_in_at_most_its_own_bytes(density: float, seed: int, numel: int) -> None:
    packed = random_mask(density, seed, numel)
    coded = maskcoding.encode(packed)
    if coded is not None:
        assert coded.size < packed.size
        assert np.array_equal(maskcoding.decode(coded, numel, "key"), packed)
    else:
        assert numel < 1000 or 0.4 < density < 0.6


@pytest.mark.parametrize("density", [0.9, 0.5, 0.2, 0.1, 0.01, 0.0001])
def test_it_takes_little_more_than_its_entropy(density: float) -> None:
    numel = 1_000_003
    packed = random_mask(density, 0, numel)
    share = packedmasks.count(packed) / numel
    entropy = -numel * (share * math.log2(share) + (1 - share) * math.log2(1 - share))
    coded = maskcoding.encode(packed)
    if density == 0.5:
        assert coded is None
    else:
        assert coded is not None
        assert entropy - 64 < 8 * coded.size < 1.001 * entropy + 160


@pytest.mark.parametrize(("kept", "words"), [(0, 0), (NUMEL, 2)])
def test_a_mask_of_one_kind_is_a_count_and_next_to_nothing(kept: int, words: int) -> None:
    coded = coded_mask(kept / NUMEL)
    assert int.from_bytes(coded[:8].tobytes(), "little") == kept
    assert coded.size == 8 + 4 * words


GOLDEN = "3600000000000000d5ace0e537256fd83053284b63444b944c05a84a59114311066a49031c087f0d917bb4bca6180000"


def test_what_was_coded_once_is_read_for_ever() -> None:
    """By every version of the library, and on every machine: results of earlier runs have these bytes."""
    packed = np.packbits(np.arange(800) ** 2 % 101 < 6, bitorder="little")
    coded = maskcoding.encode(packed)
    assert coded is not None
    assert coded.tobytes().hex() == GOLDEN
    assert np.array_equal(maskcoding.decode(coded, 800, "key"), packed)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_no_bytes_pass_but_those_that_a_mask_is_coded_as(data: st.DataObject) -> None:
    coded = coded_mask(data.draw(densities.filter(lambda density: density != 0.5)), data.draw(st.integers(0, 9)))
    raw = bytearray(coded.tobytes())
    match data.draw(st.sampled_from(["flip", "cut", "more", "random", "count"])):
        case "flip":
            raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del raw[data.draw(st.integers(0, len(raw) - 1)) :]
        case "more":
            raw += data.draw(st.binary(min_size=1, max_size=12))
        case "random":
            raw[8:] = data.draw(st.binary(max_size=64))
        case "count":
            raw[:8] = data.draw(st.integers(0, NUMEL + 1) | st.integers(0, 2**64 - 1)).to_bytes(8, "little")
    assume(bytes(raw) != coded.tobytes())
    refusal = ""
    try:
        packed = maskcoding.decode(np.frombuffer(raw, np.uint8), NUMEL, "key")
    except PayloadError as error:
        refusal = str(error)
    if refusal:
        assert refusal.startswith("key: ")
        assert "\n" not in refusal
    else:
        again = maskcoding.encode(packed)
        assert again is not None
        assert again.tobytes() == bytes(raw)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.integers(0, 2**32 - 1), max_size=5), st.integers(0, NUMEL))
def test_words_that_end_where_decoding_ends_are_those_of_what_was_decoded(words: list[int], kept: int) -> None:
    raw = np.concatenate((np.array([kept], "<u8").view(np.uint8), np.array(words, "<u4").view(np.uint8)))
    try:
        packed = maskcoding.decode(raw, NUMEL, "key")
    except PayloadError:
        return
    again = maskcoding.encode(packed)
    assert again is not None
    assert np.array_equal(again, raw)


def with_count(count: int) -> bytes:
    return count.to_bytes(8, "little") + coded_mask()[8:].tobytes()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            b"",
            r"uint8 of shape \[0\]: a coded mask of 1001 elements is a count of 8 bytes and words of 4, together less",
        ),
        (bytes(7), r"uint8 of shape \[7\]"),
        (bytes(13), r"uint8 of shape \[13\]"),
        (bytes(128), r"uint8 of shape \[128\]: .* less than 126"),
        (with_count(NUMEL + 1), "keeps 1002 elements as it says, expected at most 1001"),
        (with_count(2**64 - 1), "keeps 18446744073709551615 elements as it says, expected at most 1001"),
        (with_count(99), "bytes: not what a mask of 1001 elements, 99 kept, is coded as"),
        (coded_mask().tobytes()[:-4], "bytes: not what a mask of 1001 elements, "),
        (coded_mask().tobytes() + bytes(4), "its last word is 0, as no coded mask ends"),
        (coded_mask().tobytes() + b"\1\0\0\0", "bytes: not what a mask of 1001 elements, "),
        ((3).to_bytes(8, "little"), "keeps 0 elements, expected 3 as it says"),
    ],
)
def test_what_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(PayloadError, match=f"^key: .*{message}"):
        maskcoding.decode(np.frombuffer(raw, np.uint8), NUMEL, "key")


def test_an_unused_bit_that_is_set_is_refused() -> None:
    coded = maskcoding.encode(np.packbits(np.arange(1008) > 1000, bitorder="little"))
    assert coded is not None
    with pytest.raises(PayloadError, match=r"^key: last byte 0x\w\w: bits from 1 on must be zero"):
        maskcoding.decode(coded, NUMEL, "key")


TABLE = TensorTable(
    (
        TensorSpec("bias", torch.float32, (30,), "parameter", prunable=False),
        TensorSpec("small", torch.float32, (8, 8), "parameter", prunable=True),
        TensorSpec("weight", torch.float32, (30, 50), "parameter", prunable=True),
    )
)
OLD = {"small": random_mask(0.9, 1, 64), "weight": random_mask(0.5, 2, 1500)}
NEW = {name: packed & random_mask(0.2, 3, 8 * packed.size) for name, packed in OLD.items()}


@pytest.mark.parametrize("old", [{}, OLD])
def test_an_update_is_coded_where_that_is_less(old: dict[str, PackedMask]) -> None:
    """With everything else in a payload it passes; what is too small to gain is packed."""
    packed, coded = (over_the_wire(payload.pack_mask_update(NEW, old, coding)) for coding in ("packed", "ans"))
    assert packed.keys() == {"mask/small", "mask/weight"}
    assert coded.keys() == {"mask/small", "coded/weight"}
    assert coded["coded/weight"].numel() < packed["mask/weight"].numel()
    for entries in (packed, coded):
        arrived = payload.unpack_mask_update(TABLE, entries, old, "ans")
        assert {name: bits.tobytes() for name, bits in arrived.items()} == {n: b.tobytes() for n, b in NEW.items()}
    values = WireFormat(TABLE, "float32").pack({spec.name: torch.ones(spec.shape) for spec in TABLE}, NEW)
    WireFormat(TABLE, "float32").check(values | coded, NEW)
    assert payload.plain_name("coded/weight") == ""


def test_coded_masks_come_only_where_they_are_asked_for_and_once() -> None:
    coded = payload.pack_mask_update(NEW, OLD, "ans")
    with pytest.raises(PayloadError, match="'coded/weight': unexpected: not asked for"):
        payload.unpack_mask_update(TABLE, coded, OLD)
    both = coded | payload.pack_mask_update(NEW, OLD)
    with pytest.raises(PayloadError, match="'coded/weight': unexpected: its mask is there"):
        payload.unpack_mask_update(TABLE, both, OLD, "ans")
    for name in ("bias", "other"):
        with pytest.raises(PayloadError, match=f"'coded/{name}': unexpected: not a prunable tensor of the model"):
            payload.unpack_mask_update(TABLE, {f"coded/{name}": coded["coded/weight"]}, OLD, "ans")
    with pytest.raises(PayloadError, match=r"'coded/weight': unexpected: not a mask|expected packed bits"):
        payload.unpack_mask_update(TABLE, {"coded/weight": torch.ones(20)}, OLD, "ans")
    with pytest.raises(PayloadError, match="'coded/weight': unexpected"):
        payload.masks_from_entries(TABLE, coded)


def test_without_the_library_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    maskcoding.require_coder("packed")
    calls: list[Any] = [
        lambda: maskcoding.require_coder("ans"),
        lambda: maskcoding.encode(random_mask(0.1, 0)),
        lambda: maskcoding.decode(np.zeros(12, np.uint8) + 1, 1 << 60, "key"),
    ]
    for call in calls:
        with pytest.raises(ExperimentError, match=r"^mask_coding = 'ans': constriction is not installed here: pip "):
            call()
