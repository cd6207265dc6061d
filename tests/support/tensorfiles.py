"""Files and tensors that several tests of the stream share."""

import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from torch import Tensor

from lotteryfl.common.tensors.stream import TensorStream


class Spec(NamedTuple):
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


EVERY_DTYPE = {
    "f64": torch.tensor([[1.5, -0.0], [torch.nan, torch.inf]], dtype=torch.float64),
    "f32": torch.randn(3, 5),
    "f16": torch.randn(7).half(),
    "bf16": torch.randn(2, 2, 2).bfloat16(),
    "i64": torch.tensor(-(2**62)),
    "i32": torch.arange(-3, 3, dtype=torch.int32),
    "i16": torch.tensor([[1], [-2]], dtype=torch.int16),
    "i8": torch.arange(-5, 0, dtype=torch.int8),
    "u8": torch.arange(9, dtype=torch.uint8),
    "bool": torch.tensor([True, False, True]),
    "nothing": torch.empty(0),
    "nothing.2d": torch.empty(3, 0, 2, dtype=torch.bfloat16),
    "größe/θ": torch.ones(1),
}


def encode(tensors: dict[str, Tensor]) -> bytes:
    return b"".join(TensorStream(tensors))


def raw_file(header: Any, data: bytes = b"", pad: bool = True) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8) if pad else b""
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype: Any, shape: Any, begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Equal names, dtypes, shapes and bytes, NaN and -0.0 included."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert (tensor.dtype, tensor.shape) == (other[name].dtype, other[name].shape), name
        assert encode({"t": tensor}) == encode({"t": other[name]}), name


def header(path: Path) -> dict[str, str]:
    """What a file says of the whole."""
    with safetensors.safe_open(path, "pt") as file:
        return dict(file.metadata())
