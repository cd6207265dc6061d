"""A strategy's own tensors as rows of the table, and on the wire."""

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import PayloadError
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.common.wire.format import WireFormat, check_model
from lotteryfl.common.wire.payload import BITS, max_payload_bytes
from lotteryfl.common.wire.strategytensor import StrategyTensor, filled, with_tensors
from lotteryfl.common.wire.table import TensorSpec, TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.tensorfiles import assert_same
from tests.support.wiremodel import TABLE, densities, model_masks, model_tensors, over_the_wire, seeds

DECLARED = (
    StrategyTensor("control", "shared", like="parameters"),
    StrategyTensor("moment", "shared", like="prunable", combine="kept", masked=True, fill=2.5),
    StrategyTensor("mine", "own", (3, 3), dtype=torch.bool, fill=1.0),
    StrategyTensor("scores", "up", like="prunable", dtype=torch.float64),
    StrategyTensor("votes", "up", (11,), dtype=torch.bool, combine="sum"),
)
WHOLE = with_tensors(TABLE, DECLARED)


def values_of(table: TensorTable, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = {spec.name: torch.randn(spec.shape, generator=generator, dtype=torch.float64) for spec in table.added}
    mine = {name: (value > 0) if table[name].is_bits else value.to(table[name].dtype) for name, value in drawn.items()}
    return model_tensors(seed) | mine


def test_rows_are_named_after_the_tensors_that_they_are_like() -> None:
    assert [spec.name for spec in WHOLE.added] == [
        "control:a.weight", "control:b.bias", "control:c.weight", "control:f.weight", "mine",
        "moment:a.weight", "moment:c.weight", "moment:f.weight",
        "scores:a.weight", "scores:c.weight", "scores:f.weight", "votes",
    ]  # fmt: skip
    row = TensorSpec(
        "moment:c.weight", torch.float32, (2, 2, 2), "shared", False,
        combine="kept", like="c.weight", masked=True, fill=2.5,
    )  # fmt: skip
    assert WHOLE["moment:c.weight"] == row
    assert WHOLE.model == TABLE
    assert WHOLE.lasting.model is not WHOLE
    assert {spec.role for spec in WHOLE.lasting.added} == {"shared", "own"}
    assert with_tensors(TABLE, ()) is TABLE
    assert TABLE.model is TABLE is TABLE.lasting


def test_the_model_is_in_its_own_order_with_them() -> None:
    """The last layer is the head, whatever it is called."""
    table = TensorTable.of(torch.nn.ModuleDict({"z": torch.nn.Linear(2, 3), "a": torch.nn.Linear(3, 2)}))
    whole = TensorTable.from_json(with_tensors(table, DECLARED).to_json())
    assert [spec.name for spec in whole.model.in_model] == ["z.weight", "z.bias", "a.weight", "a.bias"]


def test_a_table_without_any_is_the_text_that_it_was() -> None:
    """Tables are compared by their digests, which older versions made, too."""
    assert TABLE.digest == "458d87cfd9ba4c3fe3113975c14b512054d0e3bf692fe06e08737879f2d1351e"
    assert WHOLE.digest != TABLE.digest


@pytest.mark.parametrize(
    ("sends", "expected"),
    [
        ((), []),
        (("votes",), ["votes"]),
        (("scores",), ["scores:a.weight", "scores:c.weight", "scores:f.weight"]),
        (("scores:c.weight",), ["scores:c.weight"]),
        (("scores:[af]*", "v*"), ["scores:a.weight", "scores:f.weight", "votes"]),
        (("control", "mine"), []),
    ],
)
def test_what_a_plan_sends_goes_up(sends: tuple[str, ...], expected: list[str]) -> None:
    wire = WireFormat(WHOLE, "float32").of_result(pb.Plan(sends=sends))
    assert [spec.name for spec in wire.rows if spec.role == "up"] == expected
    assert [spec for spec in wire.rows if spec.role != "up"] == list(WHOLE.lasting)


def test_by_row_there_is_one_value_for_each_row() -> None:
    table = with_tensors(TABLE, (StrategyTensor("t", "own", like="prunable", by_row=True, fill=0.5),))
    assert [(spec.name, spec.shape) for spec in table.added] == [
        (f"t:{spec.name}", spec.shape[:1]) for spec in TABLE if spec.prunable
    ]
    assert TensorTable.from_json(table.to_json()) == table


def test_what_is_put_together_from_nothing_goes_down_alone() -> None:
    table = with_tensors(TABLE, (StrategyTensor("told", "shared", (2,), combine="none"),))
    wire = WireFormat(table, "float32")
    assert "told" in wire.rows
    assert "told" not in wire.of_result(pb.Plan()).rows
    assert wire.of_result(pb.Plan(sends=["told"])).rows == TABLE


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (StrategyTensor("a b", "shared"), "'a b': expected a name of up to 64 letters"),
        (StrategyTensor("a:b", "shared"), "'a:b': expected a name of up to 64 letters"),
        (StrategyTensor("x" * 65, "shared"), "expected a name of up to 64 letters"),
        (StrategyTensor("a.weight", "shared"), "two tensors are named 'a.weight'"),
        (StrategyTensor("x", "down"), "'x': role = 'down', expected one of 'shared', 'own', 'up'"),  # type: ignore[arg-type]
        (StrategyTensor("x", "up", combine="max"), "'x': combine = 'max', expected one of"),  # type: ignore[arg-type]
        (StrategyTensor("x", "up", like="all"), "'x': like = 'all', expected one of"),  # type: ignore[arg-type]
        (StrategyTensor("x", "shared", fill=float("nan")), "'x': fill = nan, expected at most 3.4"),
        (
            StrategyTensor("x", "up", fill=1e39),
            r"'x': fill = 1e\+39, expected at most 3.4.* either way in torch.flo",
        ),
        (
            StrategyTensor("x", "own", fill=2, dtype=torch.bool),
            "'x': fill = 2, expected at most 1 either way in torch",
        ),
        (StrategyTensor("x", "shared", combine="kept"), "'x': combine = 'kept' or masked, expected what is like"),
        (StrategyTensor("x", "own", by_row=True), "'x': by_row, expected what is like the model's weights"),
        (
            StrategyTensor("x", "own", like="prunable", by_row=True, masked=True),
            "'x': combine = 'kept' or masked, expec",
        ),
        (StrategyTensor("x", "up", combine="none"), "'x': combine = 'none', expected it of what is shared alone"),
        (StrategyTensor("x", "own", masked=True), "'x': combine = 'kept' or masked, expected what is like"),
        (StrategyTensor("x", "own", (2,), like="prunable"), r"'x': shape \[2\], expected none where it is like 'prun"),
        (StrategyTensor("x", "shared", dtype=torch.bool), "'x': torch.bool, expected floating point, or bool where"),
        (StrategyTensor("x", "up", dtype=torch.int64), "'x': torch.int64, expected floating point, or bool where it"),
        (
            StrategyTensor("x", "up", like="prunable", dtype=torch.bool, masked=True),
            "'x:a.weight' is masked: expected floating point, like a tensor of the model",
        ),
        (StrategyTensor("x", "own", dtype="float32"), "'x': dtype = 'float32', expected one"),  # type: ignore[arg-type]
        ("x", "'x': expected a StrategyTensor"),
    ],
)
def test_what_cannot_be_is_named(declared: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_tensors(TABLE, (declared,))


def test_a_model_with_nothing_like_it_is_named() -> None:
    dense = TABLE.with_nothing_prunable()
    with pytest.raises(ValueError, match="'x': is like 'prunable', and the model has none"):
        with_tensors(dense, (StrategyTensor("x", "up", like="prunable"),))


names = st.from_regex(r"[a-z][a-z._-]{0,8}", fullmatch=True)
declared = st.builds(
    StrategyTensor,
    names,
    st.sampled_from(["shared", "own", "up"]),
    st.just(()),
    st.sampled_from(["prunable", "parameters"]),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    st.sampled_from(["mean", "sum", "kept"]),
    st.booleans(),
    st.floats(-1e30, 1e30),
)


@given(st.lists(declared, unique_by=lambda each: each.name))
def test_the_table_comes_back_from_its_text(tensors: list[StrategyTensor]) -> None:
    table = with_tensors(TABLE, tensors)
    assert TensorTable.from_json(table.to_json()) == table
    assert TensorTable.from_json(table.to_json()).digest == table.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"combine": "max"}, r"tensor table\[6\]\['combine'\]: Input should be"),
        ({"combine": ""}, "'x:a.weight': combine = '', expected one, and none of a client's own"),
        ({"role": "own"}, "'x:a.weight': combine = 'mean', expected one, and none of a client's own"),
        ({"role": "buffer"}, "'x:a.weight' is a buffer: expected no columns of a strategy's own tensor"),
        ({"like": "b.bias"}, r"'x:a.weight' is like 'b.bias': expected a parameter of shape \[3, 5\]"),
        ({"like": "nothing"}, r"'x:a.weight' is like 'nothing': expected a parameter of shape \[3, 5\]"),
        ({"like": ""}, "'x:a.weight' is masked: expected floating point, like a tensor of the model"),
        ({"prunable": True}, "'x:a.weight' is prunable: expected a parameter of floating point"),
        ({"aliases": ["y"]}, "'x:a.weight': combine = 'mean', expected one"),
        ({"dtype": "U8"}, "'x:a.weight': torch.uint8, expected floating point, or bool where it is not shared"),
        ({"fill": 1e999}, r"tensor table\[6\]\['fill'\]: Input should be a finite number"),
        ({"fill": 1e39}, r"'x:a.weight': fill = 1e\+39, expected at most 3.4"),
        ({"fills": 1.0}, r"tensor table\[6\]\['fills'\]: Extra inputs are not permitted"),
        ({"shape": [2**40]}, r"'x:a.weight' is like 'a.weight': expected a parameter of shape"),
        ({"like": "", "masked": False, "shape": [2**40]}, "bytes of tensors, expected at most"),
    ],
)
def test_a_row_of_any_other_kind_is_refused(changes: dict[str, object], message: str) -> None:
    table = with_tensors(TABLE, (StrategyTensor("x", "shared", like="prunable", masked=True),))
    rows = json.loads(table.to_json())
    assert rows[6]["name"] == "x:a.weight"
    rows[6] |= changes
    with pytest.raises(PayloadError, match=message):
        TensorTable.from_json(json.dumps(rows))


@given(densities, seeds, st.sampled_from([(), ("scores",), ("scores", "votes")]))
def test_all_of_it_arrives_and_nothing_else(density: float, seed: int, sends: tuple[str, ...]) -> None:
    """What is masked, with zeros off the mask; and within the bound that an operator is told."""
    wire = WireFormat(WHOLE, "float32", sends=sends)
    tensors, held = values_of(WHOLE, seed), model_masks(density, seed)
    entries = over_the_wire(wire.pack(tensors, held))
    arrived = wire.unpack(entries, held)
    assert set(arrived) == {spec.name for spec in wire.rows}
    for name, tensor in arrived.items():
        under = WHOLE[name].under
        kept = packedmasks.unpack(held[under], tensor.shape) if under in held else None
        assert_same({name: tensor}, {name: tensors[name] if kept is None else tensors[name].masked_fill(~kept, 0)})
    targets = {name: torch.full_like(tensor, 1) for name, tensor in tensors.items()}
    wire.unpack_into(entries, held, targets)
    assert_same({name: targets[name] for name in arrived}, arrived)
    streamed = b"".join(wire.stream(tensors, held))
    assert streamed == b"".join(TensorStream(wire.pack(tensors, held)))
    assert len(streamed) <= max_payload_bytes(WHOLE)


@given(st.lists(st.booleans(), max_size=40))
def test_bits_take_an_eighth_of_a_byte_each(flags: list[bool]) -> None:
    table = TensorTable((TensorSpec("v", torch.bool, (len(flags),), "own", prunable=False),))
    wire, tensors = WireFormat(table, "float32"), {"v": torch.tensor(flags, dtype=torch.bool)}
    entries = over_the_wire(wire.pack(tensors, {}))
    assert entries[BITS + "v"].shape == ((len(flags) + 7) // 8,)
    assert_same(wire.unpack(entries, {}), tensors)


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        ([0, 8], "bits/votes: last byte 0x08: bits from 3 on must be zero in 11 elements"),
        ([0, 0, 0], r"bits/votes: torch.uint8 of shape \[3\], expected torch.uint8 of shape \[2\]"),
        ([0], r"bits/votes: torch.uint8 of shape \[1\], expected torch.uint8 of shape \[2\]"),
    ],
)
def test_bits_of_another_number_are_refused(bits: list[int], message: str) -> None:
    wire = WireFormat(WHOLE, "float32", sends=("votes",))
    entries = wire.pack(values_of(WHOLE, 0), {}) | {"bits/votes": torch.tensor(bits, dtype=torch.uint8)}
    with pytest.raises(PayloadError, match=message):
        wire.check(entries, {})


def test_a_value_that_is_not_finite_is_refused_whatever_it_was_filled_with() -> None:
    wire = WireFormat(WHOLE, "float32", lambda: {"control:b.bias": torch.full((3,), torch.nan)})
    entries = wire.pack(values_of(WHOLE, 0), {}) | {"dense/control:b.bias": torch.full((3,), torch.nan)}
    with pytest.raises(PayloadError, match=r"dense/control:b\.bias: value nan at flat index 0, expected finite$"):
        wire.check(entries, {})


def test_a_models_file_holds_what_lasts_with_bool_as_it_is() -> None:
    model = model_tensors() | filled(WHOLE.lasting.added)
    assert model["mine"].all()
    assert torch.equal(model["moment:a.weight"], torch.full((3, 5), 2.5))
    check_model(WHOLE, model, lambda: model)
    with pytest.raises(PayloadError, match="dense/mine: missing"):
        check_model(WHOLE, {name: model[name] for name in model if name != "mine"}, lambda: model)
    with pytest.raises(PayloadError, match="'dense/votes': unexpected"):
        check_model(WHOLE, model | {"votes": torch.ones(11, dtype=torch.bool)}, lambda: model)
