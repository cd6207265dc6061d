"""Weights that are a client's own travel whole, beside those that it shares; and the algebra that they need."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import PayloadError
from lotteryfl.common.experiment.settings import WireDtype
from lotteryfl.common.tensors.file import parse
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.payload import mask_density, max_payload_bytes, plain_name
from lotteryfl.common.wire.quantization import DTYPES
from tests.support.tensorfiles import assert_same
from tests.support.wiremodel import KEEP_SEVEN, TABLE, densities, model_masks, model_tensors, over_the_wire, seeds

WIRE = WireFormat(TABLE, "float32")
MASKED = ("a.weight", "c.weight", "f.weight")


@settings(deadline=None)
@given(densities, seeds, st.lists(st.sampled_from(MASKED), unique=True))
@pytest.mark.parametrize("wire_dtype", DTYPES)
def test_what_is_own_arrives_bit_for_bit(wire_dtype: WireDtype, density: float, seed: int, masked: list[str]) -> None:
    """And what is shared as ever; whichever way it is unpacked."""
    wire, tensors, held = WireFormat(TABLE, wire_dtype), model_tensors(seed), model_masks(density, seed, tuple(masked))
    entries = over_the_wire(wire.pack(tensors, held, own=True))
    arrived, shared = wire.unpack(entries, held, own=True), wire.unpack(wire.pack(tensors, held), held)
    for name, packed in held.items():
        keep = packedmasks.unpack(packed, TABLE[name].shape)
        assert_same({"own": arrived[name][~keep]}, {"own": tensors[name][~keep]})
        assert_same({"shared": arrived[name][keep]}, {"shared": shared[name][keep]})
    assert_same({k: v for k, v in arrived.items() if k not in held}, {k: v for k, v in shared.items() if k not in held})
    targets = {name: torch.full_like(tensor, 1) for name, tensor in tensors.items()}
    wire.unpack_into(entries, held, targets, own=True)
    assert_same(targets, arrived)
    assert len(b"".join(TensorStream(entries))) <= max_payload_bytes(TABLE)


@settings(deadline=None)
@given(densities, seeds)
@pytest.mark.parametrize("wire_dtype", DTYPES)
def test_a_stream_takes_what_is_ready_in_place_of_the_tensors(wire_dtype: WireDtype, density: float, seed: int) -> None:
    """A client's own weights and one whole tensor of its own, into the shared model."""
    wire, held = WireFormat(TABLE, wire_dtype), model_masks(density, seed)
    shared, own = model_tensors(seed), model_tensors(seed + 1)
    last = wire.pack(own, held, own=True)
    ready = {k: t for k, t in last.items() if k.startswith("own/") or plain_name(k) in ("b.bias", "a.weight")}
    arrived = wire.unpack(received(wire.stream(shared, held, ready)), held, own=True)
    from_own, from_shared = wire.unpack(last, held, own=True), wire.unpack(wire.pack(shared, held), held)
    for spec in TABLE:
        if spec.name in ("b.bias", "a.weight"):
            expected = from_own[spec.name]
        elif spec.name in held:
            keep = packedmasks.unpack(held[spec.name], spec.shape)
            expected = torch.where(keep, from_shared[spec.name], own[spec.name])
        else:
            expected = from_shared[spec.name]
        assert_same({spec.name: arrived[spec.name]}, {spec.name: expected})


def received(stream: TensorStream) -> dict[str, Tensor]:
    return parse(bytearray().join(stream), "stream")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"own/a.weight": None}, "own/a.weight: missing"),
        ({"own/b.bias": torch.ones(3)}, "'own/b.bias': unexpected"),
        ({"own/c.weight": torch.ones(0)}, "'own/c.weight': unexpected"),
        ({"own/a.weight": torch.ones(7)}, r"own/a.weight: torch.float32 of shape \[7\], expected .* \[8\]"),
        ({"own/a.weight": torch.ones(8).half()}, "own/a.weight: torch.float16 .*, expected torch.float32"),
        ({"own/a.weight": torch.full((8,), torch.nan)}, "own/a.weight: value nan at flat index 0, expected finite"),
    ],
)
@pytest.mark.parametrize("wire_dtype", DTYPES)
def test_own_entries_that_are_refused(wire_dtype: WireDtype, change: dict[str, Tensor | None], message: str) -> None:
    wire = WireFormat(TABLE, wire_dtype)
    good = wire.pack(model_tensors(), KEEP_SEVEN, own=True)
    wire.check(good, KEEP_SEVEN, own=True)
    bad = {name: tensor for name, tensor in {**good, **change}.items() if tensor is not None}
    with pytest.raises(PayloadError, match=message):
        wire.check(bad, KEEP_SEVEN, own=True)


def test_own_entries_where_nothing_is_own_are_refused_and_missed_where_something_is() -> None:
    with pytest.raises(PayloadError, match=r"'own/a\.weight': unexpected"):
        WIRE.check(WIRE.pack(model_tensors(), KEEP_SEVEN, own=True), KEEP_SEVEN)
    with pytest.raises(PayloadError, match=r"own/a\.weight: missing"):
        WIRE.check(WIRE.pack(model_tensors(), KEEP_SEVEN), KEEP_SEVEN, own=True)


# ---- what they need


@given(st.integers(0, 70), densities, seeds)
def test_a_complement_keeps_exactly_the_rest(numel: int, density: float, seed: int) -> None:
    keep = torch.rand(numel, generator=torch.Generator().manual_seed(seed)) < density
    packed = packedmasks.pack(keep)
    rest = packedmasks.complement(packed, numel)
    packedmasks.check(rest, numel, "rest")
    assert torch.equal(packedmasks.unpack(rest, (numel,)), ~keep)
    assert torch.equal(packedmasks.unpack(packed, (numel,)), keep), "the mask itself was changed"


def test_a_complement_of_another_length_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"mask of shape \[1\], expected \[2\] bytes for 9 elements"):
        packedmasks.complement(packedmasks.pack(torch.ones(8)), 9)


@pytest.mark.parametrize("prefix", ["kept/", "dense/", "scale/", "own/"])
def test_an_entry_is_of_the_tensor_after_its_first_slash(prefix: str) -> None:
    assert plain_name(f"{prefix}a/b.weight") == "a/b.weight"
    assert plain_name("mask/a.weight") == ""


def test_density_counts_prunable_weights_alone() -> None:
    assert mask_density(TABLE, {}) == 1
    assert mask_density(TABLE, KEEP_SEVEN) == (7 + 8) / (15 + 8)
