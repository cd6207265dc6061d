"""Payloads as the messages of a gRPC stream: a first message with the exact size, chunks, and a trailer.

The three streams of the contract differ in their first message alone; both sides use the same two functions.
"""

from collections.abc import Iterator
from typing import Protocol, TypeVar

from common.errors import PayloadError
from common.receiver import Receiver
from common.tensorstream import Trailer
from protos import lotteryfl_pb2 as pb

Part = TypeVar("Part", pb.AssignmentPart, pb.ResultPart, pb.BlobPart)
T = TypeVar("T")


class Payload(Protocol):
    """Bytes to stream: `common.tensorstream.TensorStream`, or a part of a file."""

    size: int

    def __iter__(self) -> Iterator[memoryview]: ...

    @property
    def trailer(self) -> Trailer:
        """Size and checksum, when all chunks have been taken."""


def frames(first: Part, payload: Payload) -> Iterator[Part]:
    """Yield the messages that carry a payload; `first` has announced its size."""
    part = type(first)
    yield first
    for chunk in payload:
        yield part(chunk=bytes(chunk))
    trailer = payload.trailer
    yield part(trailer=pb.PayloadTrailer(size=trailer.size, crc32=trailer.crc32))


def take(receiver: Receiver[T], part: pb.AssignmentPart | pb.ResultPart | pb.BlobPart) -> T | None:
    """Give a message after the first to the receiver; return the payload when it was the last one.

    Raises:
        PayloadError: the bytes are not what was announced, or the message has no place here.
    """
    kind = part.WhichOneof("part")
    if kind == "chunk":
        receiver.write(part.chunk)
        return None
    if kind == "trailer":
        return receiver.finish(Trailer(part.trailer.size, part.trailer.crc32))
    raise PayloadError(f"expected a chunk or the trailer, got {kind or 'an empty message'}")
