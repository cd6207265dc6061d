import json
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import nn
from torch.nn.utils import prune

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.pruning.parameters import named_tensors
from lotteryfl.common.pruning.prune import get_prune_params, prune_fixed_amount
from lotteryfl.common.tensors.dtypes import DTYPES
from lotteryfl.common.wire.table import MAX_BYTES, TensorSpec, TensorTable
from tests.support.architectures import ARCHITECTURES, build

ROW = {"name": "w", "dtype": "F32", "shape": [2, 3], "role": "parameter", "prunable": True, "aliases": []}


def row(**changes: object) -> str:
    return json.dumps([ROW | changes])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_p11_the_table_is_the_same_in_every_state_of_pruning(name: str) -> None:
    """P11: and it describes exactly the named tensors and the prunable weights."""
    model, _ = build(name)
    table = TensorTable.of(model)
    tensors = named_tensors(model)
    assert {spec.name: (spec.dtype, spec.shape) for spec in table} == {
        name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()
    }
    assert sum(spec.numel for spec in table if spec.prunable) == get_prune_params(model)[1]
    assert table.nbytes == sum(tensor.nbytes for tensor in tensors.values())
    assert [spec.name for spec in table] == sorted(tensors)
    assert TensorTable.from_json(table.to_json()) == table
    by_torch, _ = build(name)
    prune.global_unstructured(get_prune_params(by_torch)[0], prune.L1Unstructured, amount=0.2)
    prune_fixed_amount(model, 0.2, verbose=False)
    for pruned in (model, by_torch):
        assert TensorTable.of(pruned) == table
        assert TensorTable.of(pruned).digest == table.digest
        assert TensorTable.of(pruned).difference(table) == ""


def test_p15_roles_and_prunable_by_rule() -> None:
    """P15: buffers are in the table, with their own dtypes."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    table = TensorTable.of(model)
    assert len(table) == 7
    assert table["1.num_batches_tracked"] == TensorSpec("1.num_batches_tracked", torch.int64, (), "buffer", False)
    assert {spec.name for spec in table if spec.role == "buffer"} == {
        "1.running_mean", "1.running_var", "1.num_batches_tracked",
    }  # fmt: skip
    assert [spec.name for spec in table if spec.prunable] == ["0.weight"]
    assert [spec.name for spec in TensorTable.of(model, "every-weight") if spec.prunable] == [
        "0.weight",
        "1.weight",
    ]
    assert "0.weight" in table
    assert "0.weight_orig" not in table


def test_p3_other_names_of_a_tie_are_in_the_table() -> None:
    """P3: counted once."""
    model, _ = build("tied")
    assert TensorTable.of(model)["encoder.weight"].aliases == ("twin.weight",)
    layer = nn.Linear(2, 2)
    shared = TensorTable.of(nn.Sequential(layer, layer))
    assert [(spec.name, spec.aliases) for spec in shared] == [
        ("0.bias", ("1.bias",)),
        ("0.weight", ("1.weight",)),
    ]


def test_a_model_with_nothing_prunable_has_a_table() -> None:
    assert not any(spec.prunable for spec in TensorTable.of(nn.BatchNorm1d(2)))
    assert len(TensorTable.of(nn.ReLU())) == 0
    assert TensorTable.from_json("[]") == TensorTable(())


def test_dtype_names_and_sizes_are_those_of_safetensors() -> None:
    for name, dtype in DTYPES.items():
        file = save({"w": torch.zeros(2, 3, dtype=dtype)})
        header = json.loads(file[8 : 8 + int.from_bytes(file[:8], "little")])
        assert header["w"]["dtype"] == name
        spec = TensorSpec("w", dtype, (2, 3), "buffer", False)
        assert [0, spec.nbytes] == header["w"]["data_offsets"]
        assert TensorTable.from_json(TensorTable((spec,)).to_json())["w"] == spec


def test_another_dtype_is_refused_by_name() -> None:
    model = nn.Linear(2, 2, dtype=torch.complex64)
    with pytest.raises(ValueError, match=r"^'weight' has dtype torch\.complex64, expected one of F64, F32, F16, BF16"):
        TensorTable.of(model)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"shape": (2, 4)}, "tensor 'w': shape is (2, 3) here, (2, 4) there"),
        ({"dtype": torch.float64}, "tensor 'w': dtype is torch.float32 here, torch.float64 there"),
        ({"role": "buffer", "prunable": False}, "tensor 'w': role is parameter here, buffer there"),
        ({"prunable": False}, "tensor 'w': prunable is True here, False there"),
        ({"aliases": ("u",)}, "tensor 'w': aliases is () here, ('u',) there"),
        ({"name": "v"}, "tensor 'v' is there, but not here"),
        ({"name": "x"}, "tensor 'w' is here, but not there"),
    ],
)
def test_difference_names_the_first_tensor_that_differs(changed: dict[str, Any], sentence: str) -> None:
    spec: dict[str, Any] = {"name": "w", "dtype": torch.float32, "shape": (2, 3), "role": "parameter", "prunable": True}
    last = TensorSpec("z", torch.int64, (), "buffer", False)
    mine, theirs = TensorTable((last, TensorSpec(**spec))), TensorTable((TensorSpec(**spec | changed),))
    assert mine.difference(theirs) == sentence
    assert mine.digest != theirs.digest
    assert mine != theirs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "tensor table: Invalid JSON"),
        ("{}", "tensor table: Input should be a valid "),
        ("[1]", r"tensor table\[0\]: Input should be an object"),
        (row(dtype="F8"), r"tensor table\[0\]\['dtype'\]: Input should be 'F64', 'F32'"),
        (row(dtype="torch.float32"), r"tensor table\[0\]\['dtype'\]"),
        (row(name=""), r"tensor table\[0\]\['name'\]: String should have at least 1 character"),
        (row(name="w" * 513), r"tensor table\[0\]\['name'\]: String should have at most 512 characters"),
        (row(shape=[-1]), r"tensor table\[0\]\['shape'\]\[0\]: Input should be greater than or equal to 0"),
        (row(shape=[2.0]), r"tensor table\[0\]\['shape'\]\[0\]: Input should be a valid integer"),
        (row(shape=[True]), r"tensor table\[0\]\['shape'\]\[0\]: Input should be a valid integer"),
        (row(shape=[1] * 17), r"tensor table\[0\]\['shape'\]: Tuple should have at most 16 items"),
        (row(shape=[2**20, 2**20, 2]), f"bytes of tensors, expected at most {MAX_BYTES}"),
        (row(shape=[2**70]), r"tensor table\[0\]\['shape'\]\[0\]"),
        (
            row(role="weight"),
            r"tensor table\[0\]\['role'\]: Input should be 'parameter', 'buffer', 'frozen', 'shared', 'own' or 'up'",
        ),
        (row(role="buffer"), "tensor table: 'w' is prunable: expected a parameter of floating point"),
        (row(dtype="I64"), "tensor table: 'w' is prunable: expected a parameter of floating point"),
        (row(prunable=1), r"tensor table\[0\]\['prunable'\]: Input should be a valid boolean"),
        (row(extra=1), r"tensor table\[0\]\['extra'\]: Extra inputs are not permitted"),
        (row(**{"x" * 1000: 1}), r"tensor table\[0\]\['xxxxxxxxxxxx\.\.\.xxxxxxxxxxxxx'\]: Extra"),
        (json.dumps([{"name": "w"}]), r"tensor table\[0\]\['dtype'\]: Field required"),
        (json.dumps([ROW, ROW]), "tensor table: two tensors are named 'w'"),
        (row(aliases=["w"]), "tensor table: two tensors are named 'w'"),
        (json.dumps([ROW] * 100_001), "tensor table: List should have at most 100000 items"),
        (" " * (64 * 2**20 + 1), "tensor table: 67108865 characters, expected at most 67108864"),
    ],
)
def test_json_of_any_other_kind_is_refused(text: str, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        TensorTable.from_json(text)
