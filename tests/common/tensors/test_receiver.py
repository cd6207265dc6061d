"""Receiving: nothing counts that is not exactly what was announced."""

import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.tensors.file import parse
from lotteryfl.common.tensors.receiver import FileReceiver, MemoryReceiver
from lotteryfl.common.tensors.stream import CHUNK_BYTES, TensorStream, Trailer
from tests.support.tensorfiles import EVERY_DTYPE, assert_same, encode, names


@pytest.fixture(params=["memory", "file"])
def new_receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    def make(size: int, limit: int = 1 << 30) -> MemoryReceiver | FileReceiver:
        if request.param == "memory":
            return MemoryReceiver(size, limit, "client 3")
        return FileReceiver(tmp_path / "spool", size, limit, "client 3")

    return make


def received(result: memoryview | Path) -> bytes:
    return result.read_bytes() if isinstance(result, Path) else bytes(result)


@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, 900), max_size=6))
def test_any_cutting_into_chunks_arrives(cuts: list[int]) -> None:
    data = encode(EVERY_DTYPE)
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    receiver = MemoryReceiver(len(data), len(data), "t")
    for begin, end in pairwise(ends):
        receiver.write(data[begin:end])
    assert_same(parse(receiver.finish(Trailer(len(data), zlib.crc32(data))), "t"), EVERY_DTYPE)


def test_a_stream_is_received(new_receiver: Any, tmp_path: Path) -> None:
    stream = TensorStream({"big": torch.randn(CHUNK_BYTES), **EVERY_DTYPE})
    with new_receiver(stream.size) as receiver:
        for chunk in stream:
            receiver.write(bytes(chunk))
        assert not (tmp_path / "spool").exists()
        assert received(receiver.finish(stream.trailer)) == b"".join(stream)
    assert names(tmp_path) in ([], ["spool"])


def test_an_empty_payload(new_receiver: Any) -> None:
    assert received(new_receiver(0).finish(Trailer(0, 0))) == b""


def test_received_memory_is_writable() -> None:
    data = encode({"t": torch.zeros(2)})
    receiver = MemoryReceiver(len(data), len(data), "t")
    receiver.write(data)
    tensor = parse(receiver.finish(Trailer(len(data), zlib.crc32(data))), "t")["t"]
    tensor.fill_(3)
    assert tensor.tolist() == [3, 3]


@pytest.mark.parametrize("size", [101, 2**63])
def test_too_large_an_announcement_is_refused_before_anything_is_allocated(
    new_receiver: Any, tmp_path: Path, size: int
) -> None:
    with pytest.raises(PayloadError, match=f"client 3: {size} bytes announced, at most 100 are taken"):
        new_receiver(size, 100)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("chunks", "trailer", "message"),
    [
        ([b"1234", b"56789"], None, "9 bytes received, 8 announced"),
        ([b"1234"], Trailer(8, zlib.crc32(b"12345678")), "4 bytes received, 8 announced, 8 in the trailer"),
        (
            [b"12345678"],
            Trailer(9, zlib.crc32(b"12345678")),
            "8 bytes received, 8 announced, 9 in the trailer",
        ),
        ([b"12345678"], Trailer(8, 0xABC), "checksum 9ae0daaf, expected 00000abc"),
        ([b"1234"], None, "the stream ended after 4 of 8 bytes, without a trailer"),
        ([b"12345678"], None, "the stream ended after 8 of 8 bytes, without a trailer"),
    ],
)
def test_what_is_not_whole_is_refused_and_removed(
    new_receiver: Any, tmp_path: Path, chunks: list[bytes], trailer: Trailer | None, message: str
) -> None:
    receiver = new_receiver(8)

    def receive() -> None:
        for chunk in chunks:
            receiver.write(chunk)
        receiver.finish(trailer)

    with pytest.raises(PayloadError, match=f"client 3: {message}"):
        receive()
    assert names(tmp_path) == []
    with pytest.raises(ValueError, match="client 3: this payload is finished, refused or discarded"):
        receiver.write(b"1")


def test_leaving_a_receiver_unfinished_discards(new_receiver: Any, tmp_path: Path) -> None:
    with new_receiver(8) as receiver:
        receiver.write(b"1234")
    assert names(tmp_path) == []
    with pytest.raises(ValueError, match="discarded"):
        receiver.finish(Trailer(8, 0))
