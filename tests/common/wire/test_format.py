"""Values as entries of a payload: what arrives is what was sent, and nothing else is taken."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import PayloadError
from lotteryfl.common.experiment.settings import WireDtype
from lotteryfl.common.packedmasks import BLOCK, PackedMask
from lotteryfl.common.tensors.file import open_file, save
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.quantization import DTYPES, MAX_SCALE, SCALE_BLOCK, dequantize, quantize
from lotteryfl.common.wire.table import TensorSpec, TensorTable
from tests.support.tensorfiles import assert_same
from tests.support.wiremodel import KEEP_SEVEN, TABLE, densities, model_masks, model_tensors, over_the_wire, seeds

WIRE = WireFormat(TABLE, "float32")
INT8 = WireFormat(TABLE, "int8")
NARROW = [dtype for dtype in DTYPES if dtype != "float32"]


@settings(deadline=None)
@given(densities, seeds, st.lists(st.sampled_from(["a.weight", "c.weight", "f.weight"]), unique=True))
def test_a_model_arrives_with_exact_zeros_where_it_is_pruned(density: float, seed: int, masked: list[str]) -> None:
    tensors, held = model_tensors(seed), model_masks(density, seed, tuple(masked))
    entries = WIRE.pack(tensors, held)
    assert list(entries) == [f"{'kept' if s.name in held else 'dense'}/{s.name}" for s in TABLE]
    expected = dict(tensors)
    for name, packed in held.items():
        keep = packedmasks.unpack(packed, TABLE[name].shape)
        expected[name] = torch.where(keep, tensors[name], torch.zeros((), dtype=TABLE[name].dtype))
        assert_same({"k": entries[f"kept/{name}"]}, {"k": tensors[name][keep]})
    arrived = WIRE.unpack(over_the_wire(entries), held)
    assert list(arrived) == [spec.name for spec in TABLE]
    assert_same(arrived, expected)


@pytest.mark.parametrize("strided", [False, True])
def test_a_model_is_written_in_place_wherever_its_tensors_lie(strided: bool) -> None:
    held = model_masks(0.5)
    entries = WIRE.pack(model_tensors(1), held)
    targets = {
        name: torch.full((*tensor.shape, 2), 7).to(tensor.dtype)[..., 0] if strided else tensor.clone()
        for name, tensor in model_tensors(2).items()
    }
    WIRE.unpack_into(entries, held, targets)
    assert_same(targets, WIRE.unpack(entries, held))


@settings(deadline=None)
@given(densities, seeds, st.lists(st.sampled_from(["a.weight", "c.weight", "f.weight"]), unique=True))
@pytest.mark.parametrize("wire_dtype", DTYPES)
def test_the_stream_is_that_of_the_entries(wire_dtype: WireDtype, density: float, seed: int, masked: list[str]) -> None:
    wire, tensors, held = WireFormat(TABLE, wire_dtype), model_tensors(seed), model_masks(density, seed, tuple(masked))
    stream = wire.stream(tensors, held)
    assert b"".join(stream) == b"".join(TensorStream(wire.pack(tensors, held)))


def test_a_stream_that_makes_nothing_is_at_hand() -> None:
    tensors = model_tensors(1)
    assert WIRE.stream(tensors, {}).is_at_hand
    assert not WIRE.stream(tensors, model_masks(0.5)).is_at_hand
    assert not INT8.stream(tensors, {}).is_at_hand


def test_nothing_is_written_of_entries_that_are_refused() -> None:
    targets = model_tensors(2)
    entries = WIRE.pack(model_tensors(1), {})
    del entries["dense/" + TABLE.specs[-1].name]
    with pytest.raises(PayloadError, match="missing"):
        WIRE.unpack_into(entries, {}, targets)
    assert_same(targets, model_tensors(2))


def test_unpacking_from_a_mapped_file(tmp_path: Path) -> None:
    held = model_masks(0.5)
    save(tmp_path / "result", WIRE.pack(model_tensors(), held))
    entries = open_file(tmp_path / "result")
    WIRE.check(entries, held)
    assert_same(
        WIRE.unpack(entries, held),
        WIRE.unpack(WIRE.pack(model_tensors(), held), held),
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
        WIRE.pack(tensors, {})


def test_a_mask_of_an_unknown_tensor_is_an_error() -> None:
    with pytest.raises(ValueError, match="zz: has a mask, but is not in the model's table"):
        WIRE.pack(model_tensors(), {"zz": packedmasks.pack(torch.ones(3))})
    with pytest.raises(ValueError, match="zz: has a mask"):
        WIRE.check({}, {"zz": packedmasks.pack(torch.ones(3))})


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
    good = WIRE.pack(model_tensors(), KEEP_SEVEN)
    WIRE.check(good, KEEP_SEVEN)
    bad = {name: tensor for name, tensor in {**good, **change}.items() if tensor is not None}
    for take in (WIRE.check, WIRE.unpack):
        with pytest.raises(PayloadError, match=message) as caught:
            take(bad, KEEP_SEVEN)
        assert len(str(caught.value)) < 1000


def test_kept_values_where_the_receiver_expects_none() -> None:
    entries = WIRE.pack(model_tensors(), KEEP_SEVEN)
    with pytest.raises(PayloadError, match=r"'kept/a\.weight': unexpected"):
        WIRE.unpack(entries, {})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("position", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 2])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_bad_value_anywhere_is_found(dtype: torch.dtype, position: int, value: float) -> None:
    wire = WireFormat(TensorTable((TensorSpec("w", dtype, (2 * BLOCK + 3,), "parameter", prunable=False),)), "float32")
    tensor = torch.full((2 * BLOCK + 3,), torch.finfo(dtype).max, dtype=dtype)
    wire.check({"dense/w": tensor}, {})
    tensor[position] = value
    with pytest.raises(PayloadError, match=f"dense/w: value {value} at flat index {position}, expected finite"):
        wire.check({"dense/w": tensor}, {})


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

    wire = WireFormat(
        TensorTable((TensorSpec("w", torch.float32, (8 * BLOCK,), "parameter", prunable=True),)), "float32"
    )
    held = {"w": packedmasks.pack(torch.arange(8 * BLOCK) % 2)}
    kept = torch.ones(4 * BLOCK)
    with Allocations() as allocations:
        wire.check({"kept/w": kept}, held)
        kept[-1] = torch.nan
        with pytest.raises(PayloadError, match=f"flat index {4 * BLOCK - 1}"):
            wire.check({"kept/w": kept}, held)
    assert 0 < allocations.largest <= BLOCK


# ---- narrowed weights


def narrowed(tensor: Tensor, packed: PackedMask | None, wire_dtype: WireDtype) -> Tensor:
    """A weight as it arrives, by the arithmetic alone."""
    if packed is None:
        return dequantize(*quantize(tensor, wire_dtype))
    keep = packedmasks.unpack(packed, tensor.shape)
    whole = torch.zeros_like(tensor)
    whole[keep] = dequantize(*quantize(tensor[keep], wire_dtype))
    return whole


@settings(deadline=None)
@given(st.sampled_from(NARROW), densities, seeds, st.booleans())
def test_only_prunable_float32_tensors_are_narrowed(
    wire_dtype: WireDtype, density: float, seed: int, masked: bool
) -> None:
    tensors, held = model_tensors(seed), model_masks(density, seed) if masked else {}
    wire = WireFormat(TABLE, wire_dtype)
    entries = over_the_wire(wire.pack(tensors, held))
    assert {key: entry.dtype for key, entry in entries.items() if key.endswith("a.weight")} == {
        f"{'kept' if masked else 'dense'}/a.weight": DTYPES[wire_dtype],
        **({"scale/a.weight": torch.float32} if wire_dtype == "int8" else {}),
    }
    assert_same(
        {key: entry for key, entry in entries.items() if not key.endswith("a.weight")},
        {key: entry for key, entry in WIRE.pack(tensors, held).items() if not key.endswith("a.weight")},
    )
    expected = WIRE.unpack(WIRE.pack(tensors, held), held)
    expected["a.weight"] = narrowed(tensors["a.weight"], held.get("a.weight"), wire_dtype)
    assert_same(wire.unpack(entries, held), expected)
    targets = {name: torch.full_like(tensor, 1) for name, tensor in tensors.items()}
    wire.unpack_into(entries, held, targets)
    assert_same(targets, expected)


@pytest.mark.parametrize("wire_dtype", DTYPES)
def test_what_has_arrived_travels_again_without_further_loss(wire_dtype: WireDtype) -> None:
    wire = WireFormat(TABLE, wire_dtype)
    once = wire.unpack(wire.pack(model_tensors(), KEEP_SEVEN), KEEP_SEVEN)
    twice = wire.unpack(wire.pack(once, KEEP_SEVEN), KEEP_SEVEN)
    if wire_dtype == "int8":  # the largest value / 127 may be the neighbour of the scale that it was made with
        torch.testing.assert_close(twice["a.weight"], once["a.weight"], rtol=1e-6, atol=0)
    else:
        assert_same(twice, once)


@pytest.mark.parametrize("strided", [False, True])
def test_narrowed_weights_are_written_in_place_wherever_they_lie(strided: bool) -> None:
    for held in ({}, KEEP_SEVEN):
        entries = INT8.pack(model_tensors(1), held)
        targets = {
            name: torch.full((*tensor.shape, 2), 7).to(tensor.dtype)[..., 0] if strided else tensor.clone()
            for name, tensor in model_tensors(2).items()
        }
        INT8.unpack_into(entries, held, targets)
        assert_same(targets, INT8.unpack(entries, held))


@pytest.mark.parametrize(("wire_dtype", "value"), [("float16", 70000.0), ("bfloat16", torch.nan), ("int8", torch.inf)])
def test_a_value_that_cannot_travel_is_named(wire_dtype: WireDtype, value: float) -> None:
    tensors = model_tensors()
    tensors["a.weight"][1, 0] = value  # flat index 5: the third of the seven that are kept
    for held, key, index in (({}, "dense/a.weight", 5), (KEEP_SEVEN, "kept/a.weight", 2)):
        with pytest.raises(PayloadError, match=f"{key}: value {value:g} at flat index {index}: {wire_dtype} carries"):
            WireFormat(TABLE, wire_dtype).pack(tensors, held)


I8 = torch.ones(7, dtype=torch.int8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kept/a.weight": torch.ones(7)}, "kept/a.weight: torch.float32 .*, expected torch.int8"),
        ({"kept/a.weight": I8[:6]}, r"kept/a.weight: torch.int8 of shape \[6\], expected .* \[7\]"),
        ({"kept/a.weight": -128 * I8}, "kept/a.weight: value -128, expected -127 to 127"),
        ({"scale/a.weight": None}, "scale/a.weight: missing"),
        ({"scale/a.weight": torch.ones(2)}, r"scale/a.weight: .* of shape \[2\], expected .* \[1\]"),
        ({"scale/a.weight": torch.ones(1).half()}, "scale/a.weight: torch.float16 .*, expected torch.float32"),
        ({"scale/a.weight": torch.tensor([torch.nan])}, "scale/a.weight: value nan at flat index 0, expected finite"),
        ({"scale/a.weight": torch.tensor([-1.0])}, "scale/a.weight: value -1, expected 0 to 2.65"),
        ({"scale/a.weight": torch.tensor([MAX_SCALE * 1.01])}, "scale/a.weight: value 2.68.*, expected 0 to 2.65"),
        ({"scale/b.bias": torch.ones(1)}, "'scale/b.bias': unexpected"),
        ({"scale/c.weight": torch.ones(1)}, "'scale/c.weight': unexpected"),
        ({"dense/b.bias": torch.ones(3).half()}, "dense/b.bias: torch.float16 .*, expected torch.float32"),
    ],
)
def test_int8_entries_that_are_refused(change: dict[str, Tensor | None], message: str) -> None:
    good = INT8.pack(model_tensors(), KEEP_SEVEN)
    INT8.check(good, KEEP_SEVEN)
    bad = {name: tensor for name, tensor in {**good, **change}.items() if tensor is not None}
    with pytest.raises(PayloadError, match=message):
        INT8.check(bad, KEEP_SEVEN)


@pytest.mark.parametrize("sent", DTYPES)
@pytest.mark.parametrize("agreed", DTYPES)
@pytest.mark.parametrize("held", [{}, KEEP_SEVEN])
def test_nothing_but_the_experiments_dtype_is_taken(
    sent: WireDtype, agreed: WireDtype, held: dict[str, PackedMask]
) -> None:
    entries, wire = WireFormat(TABLE, sent).pack(model_tensors(), held), WireFormat(TABLE, agreed)
    if sent == agreed:
        wire.check(entries, held)
    else:
        with pytest.raises(PayloadError, match=r"a\.weight"):
            wire.check(entries, held)


@pytest.mark.parametrize("wire_dtype", ["bfloat16", "float16"])
def test_an_infinite_narrow_value_is_refused(wire_dtype: WireDtype) -> None:
    wire = WireFormat(TABLE, wire_dtype)
    entries = wire.pack(model_tensors(), KEEP_SEVEN)
    entries["kept/a.weight"][3] = torch.inf
    with pytest.raises(PayloadError, match=r"kept/a\.weight: value inf at flat index 3, expected finite"):
        wire.check(entries, KEEP_SEVEN)


def test_an_int8_buffer_of_the_models_own_is_none_of_this() -> None:
    table = TensorTable((TensorSpec("levels", torch.int8, (2,), "buffer", prunable=False),))
    tensors = {"levels": torch.tensor([-128, 127], dtype=torch.int8)}
    wire = WireFormat(table, "int8")
    assert_same(wire.unpack(wire.pack(tensors, {}), {}), tensors)


def test_scales_follow_the_kept_values_over_block_borders() -> None:
    numel = 3 * BLOCK + 5
    table = TensorTable((TensorSpec("w", torch.float32, (numel,), "parameter", prunable=True),))
    generator = torch.Generator().manual_seed(0)
    held = {"w": packedmasks.pack(torch.rand(numel, generator=generator) < 0.3)}
    tensors = {"w": torch.randn(numel, generator=generator)}
    entries = WireFormat(table, "int8").pack(tensors, held)
    assert entries["scale/w"].numel() == -(-packedmasks.count(held["w"]) // SCALE_BLOCK)
    assert_same(
        WireFormat(table, "int8").unpack(over_the_wire(entries), held),
        {"w": narrowed(tensors["w"], held["w"], "int8")},
    )
