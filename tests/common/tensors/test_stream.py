"""Golden bytes and chunks: what a stream of tensors is."""

import zlib
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from lotteryfl.common.tensors.file import open_file, parse
from lotteryfl.common.tensors.layout import MAX_HEADER_BYTES
from lotteryfl.common.tensors.stream import CHUNK_BYTES, Deferred, TensorStream
from tests.support.tensorfiles import EVERY_DTYPE, assert_same, encode


def test_a_deferred_tensor_is_made_when_its_turn_comes_and_again_for_a_retry() -> None:
    made: list[str] = []

    def make(name: str, value: float) -> Tensor:
        made.append(name)
        return torch.full((CHUNK_BYTES // 4,), value)

    deferred = {
        name: Deferred(torch.float32, (CHUNK_BYTES // 4,), partial(make, name, value))
        for name, value in (("a", 1.0), ("b", 2.0))
    }
    stream = TensorStream(deferred)
    assert not stream.is_at_hand
    assert made == []
    pieces = iter(stream)
    first = [bytes(next(pieces)), bytes(next(pieces))]
    assert made == ["a"], "the header, and the first tensor"
    whole = b"".join([*first, *pieces])
    assert made == ["a", "b"]
    at_hand = TensorStream({name: tensor.make() for name, tensor in deferred.items()})
    assert at_hand.is_at_hand
    assert whole == b"".join(at_hand) == b"".join(stream)
    assert stream.trailer == at_hand.trailer


def test_golden_bytes() -> None:
    tensors = {
        "m": torch.tensor([5, 1], dtype=torch.uint8),
        "weight": torch.tensor([[1.0, -2.0]]),
        "steps": torch.tensor(258),
    }
    header = (
        b'{"steps":{"dtype":"I64","shape":[],"data_offsets":[0,8]},'
        b'"weight":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]},'
        b'"m":{"dtype":"U8","shape":[2],"data_offsets":[16,18]}}    '
    )
    data = bytes.fromhex("0201000000000000 0000803f 000000c0 0501")
    assert encode(tensors) == bytes([len(header), 0, 0, 0, 0, 0, 0, 0]) + header + data
    assert len(header) % 8 == 0


def test_the_library_reads_what_we_write() -> None:
    assert_same(safetensors.torch.load(encode(EVERY_DTYPE)), EVERY_DTYPE)


def test_we_read_what_the_library_writes(tmp_path: Path) -> None:
    theirs = safetensors.torch.save(EVERY_DTYPE, metadata={"format": "pt"})
    assert_same(parse(theirs, "theirs"), EVERY_DTYPE)
    safetensors.torch.save_file(EVERY_DTYPE, tmp_path / "theirs.safetensors")
    assert_same(open_file(tmp_path / "theirs.safetensors"), EVERY_DTYPE)


def test_no_tensors_at_all() -> None:
    assert parse(encode({}), "empty") == {}
    assert safetensors.torch.load(encode({})) == {}


def test_data_follow_the_order_given_within_one_item_size() -> None:
    tensors = {
        "b": torch.ones(1),
        "flag": torch.ones(1, dtype=torch.bool),
        "a": torch.ones(3),
        "c": torch.ones(2),
    }
    assert list(parse(encode(tensors), "t")) == ["b", "a", "c", "flag"]


def test_every_tensor_is_aligned() -> None:
    tensors = {f"{i}.{name}": tensor for i in range(3) for name, tensor in EVERY_DTYPE.items()}
    for name, tensor in parse(encode(tensors), "t").items():
        assert tensor.data_ptr() % tensor.itemsize == 0, name


def test_strided_and_differentiable_tensors_are_written_in_flat_order() -> None:
    tensor = torch.arange(12.0).view(3, 4).t().requires_grad_()
    assert torch.equal(parse(encode({"t": tensor}), "t")["t"], tensor)


def test_pieces_are_slices_of_the_tensors_own_storage() -> None:
    tensor = torch.zeros(4 * CHUNK_BYTES, dtype=torch.uint8)
    _header, *pieces = TensorStream({"t": tensor})
    tensor.fill_(7)
    assert [len(piece) for piece in pieces] == [CHUNK_BYTES] * 4
    assert all(bytes(piece[:2]) == b"\7\7" and piece.readonly for piece in pieces)


def test_the_trailer_is_the_size_and_checksum_of_every_iteration() -> None:
    stream = TensorStream(EVERY_DTYPE)
    with pytest.raises(ValueError, match="all pieces"):
        _ = stream.trailer
    first = b"".join(stream)
    assert stream.trailer == (len(first), zlib.crc32(first)) == (stream.size, zlib.crc32(first))
    assert b"".join(stream) == first  # a retry sends everything again
    assert stream.trailer == (len(first), zlib.crc32(first))


def test_the_sizes_of_a_stream_are_exact() -> None:
    assert TensorStream(EVERY_DTYPE).size == len(encode(EVERY_DTYPE))


@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        ({"z": torch.ones(1, dtype=torch.complex64)}, TypeError, r"z: torch\.complex64 cannot be stored"),
        ({"__metadata__": torch.ones(1)}, ValueError, "__metadata__: this name is reserved"),
        ({"n" * MAX_HEADER_BYTES: torch.ones(1)}, ValueError, "header of .* bytes for 1 tensors"),
    ],
)
def test_what_cannot_be_encoded(tensors: dict[str, Tensor], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TensorStream(tensors)
