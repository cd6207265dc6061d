"""Framing: what the sender yields is what the receiver takes, and what protobuf itself writes and reads."""

import zlib
from collections.abc import Iterator

import pytest
import torch
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.tensors.file import parse
from lotteryfl.common.tensors.receiver import MemoryReceiver
from lotteryfl.common.tensors.stream import CHUNK_BYTES, TensorStream, Trailer
from lotteryfl.common.wire.framing import deserializer, frames, message_size, serialize, take
from lotteryfl.protos import lotteryfl_pb2 as pb

read = deserializer(pb.BlobPart)


def messages_of(tensors: dict[str, torch.Tensor]) -> list[bytes]:
    payload = TensorStream(tensors)
    return list(frames(pb.BlobPart(header=pb.PayloadHeader(size=payload.size)), payload))


def test_a_payload_arrives_as_it_was() -> None:
    tensors = {"w": torch.randn(700_000), "b": torch.arange(3)}
    first, *rest = map(read, messages_of(tensors))
    assert isinstance(first, pb.BlobPart)
    assert first.header.size > 2 * CHUNK_BYTES
    receiver = MemoryReceiver(first.header.size, first.header.size, "model")
    taken = [take(receiver, part) for part in rest]
    assert taken[:-1] == [None] * (len(rest) - 1)
    assert taken[-1] is not None
    for name, tensor in parse(taken[-1], "model").items():
        assert torch.equal(tensor, tensors[name])


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_every_chunk_but_the_last_is_full(extra: int) -> None:
    header = TensorStream({"b": torch.ones(2 * CHUNK_BYTES, dtype=torch.uint8)}).size - 2 * CHUNK_BYTES
    payload = {"b": torch.ones(2 * CHUNK_BYTES - header + extra, dtype=torch.uint8)}
    sizes = [len(part) for part in map(read, messages_of(payload)) if isinstance(part, memoryview)]
    assert sizes == [CHUNK_BYTES, CHUNK_BYTES + min(extra, 0), 1][: 3 if extra > 0 else 2]


def test_ten_thousand_tiny_tensors_are_a_few_chunks() -> None:
    tensors = {f"layer.{i}.bias": torch.full((3,), float(i)) for i in range(10_000)}
    chunks = [part for part in map(read, messages_of(tensors)) if isinstance(part, memoryview)]
    size = TensorStream(tensors).size
    assert len(chunks) == -(-size // CHUNK_BYTES)
    assert b"".join(chunks) == b"".join(TensorStream(tensors))


def test_no_message_is_larger_than_a_chunk_and_its_tag() -> None:
    assert max(map(len, messages_of({"w": torch.zeros(3 * CHUNK_BYTES // 4)}))) < CHUNK_BYTES + 16


@given(offset=st.integers(0, 2_800_200))
def test_a_payload_may_start_at_any_offset(offset: int) -> None:
    payload = TensorStream({"w": torch.arange(700_000)})
    offset = min(offset, payload.size)
    *parts, trailer = map(read, list(frames(pb.BlobPart(header=pb.PayloadHeader()), payload, offset))[1:])
    chunks = [part for part in parts if isinstance(part, memoryview)]
    assert len(chunks) == len(parts)
    assert b"".join(chunks) == b"".join(payload)[offset:]
    assert trailer == pb.BlobPart(trailer=pb.PayloadTrailer(size=payload.size, crc32=payload.trailer.crc32))


@pytest.mark.parametrize("part", [pb.BlobPart(), pb.BlobPart(header=pb.PayloadHeader(size=3))])
def test_a_message_out_of_place_is_refused(part: pb.BlobPart) -> None:
    with pytest.raises(PayloadError, match="expected a chunk or the trailer"):
        take(MemoryReceiver(8, 8, "model"), part)


@pytest.mark.parametrize("extra", [memoryview(b"more"), pb.BlobPart(trailer=pb.PayloadTrailer()), pb.BlobPart()])
def test_a_message_after_the_trailer_is_refused(extra: pb.BlobPart | memoryview) -> None:
    receiver = MemoryReceiver(0, 8, "model")
    assert take(receiver, pb.BlobPart(trailer=pb.PayloadTrailer())) is not None
    with pytest.raises(PayloadError, match="expected the stream to end with its trailer, got another message"):
        take(receiver, extra)


@pytest.mark.parametrize("kind", [pb.AssignmentPart, pb.ResultPart, pb.BlobPart])
@given(size=st.sampled_from([1, 127, 128, 16_383, 16_384, CHUNK_BYTES]))
def test_a_chunk_is_the_message_that_protobuf_makes_of_it(kind: type[pb.BlobPart], size: int) -> None:
    chunk = bytes(size)
    by_protobuf = kind(chunk=chunk).SerializeToString()
    assert chunk_message(kind, chunk) == by_protobuf
    part = deserializer(kind)(by_protobuf)
    assert isinstance(part, memoryview)
    assert part == chunk
    assert message_size(part) == len(by_protobuf)


@given(st.binary(max_size=300).map(lambda tail: bytes([18]) + tail) | st.binary(max_size=40))
def test_any_bytes_are_read_as_protobuf_reads_them(message: bytes) -> None:
    try:
        expected = pb.BlobPart.FromString(message)
    except DecodeError:
        with pytest.raises(PayloadError, match=f"a message of {len(message)} bytes is not one of the stream"):
            read(message)
        return
    part = read(message)
    if isinstance(part, memoryview):
        assert expected == pb.BlobPart(chunk=bytes(part))
    else:
        assert part == expected


def test_a_chunk_in_a_message_of_another_writer_is_taken() -> None:
    """Protobuf allows what our sender never does: here, the length in more bytes than it needs."""
    part = read(b"\x12\x83\x00abc")
    receiver = MemoryReceiver(3, 3, "model")
    assert take(receiver, part) is None
    assert bytes(receiver.finish(Trailer(3, zlib.crc32(b"abc")))) == b"abc"


def test_messages_that_are_not_serialized_yet_are() -> None:
    part = pb.BlobPart(header=pb.PayloadHeader(size=3))
    assert serialize(part) == part.SerializeToString() == serialize(part.SerializeToString())


class OneChunk:
    """A payload of one chunk, of any size."""

    trailer = Trailer(0, 0)
    is_at_hand = True

    def __init__(self, chunk: bytes) -> None:
        self.size = len(chunk)
        self._chunk = chunk

    def __iter__(self) -> Iterator[memoryview]:
        yield memoryview(self._chunk)


def chunk_message(kind: type[pb.BlobPart], chunk: bytes) -> bytes:
    _first, message, _trailer = frames(kind(), OneChunk(chunk))
    return message
