"""Payloads as the messages of a gRPC stream: a first message with the exact size, chunks, and a trailer.

The three streams of the contract differ in their first message alone; both sides use the same functions. A chunk's
message is written and read here, byte for byte as protobuf would, but without its two copies of every chunk.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.faults import between_chunks
from lotteryfl.common.tensors.receiver import Receiver
from lotteryfl.common.tensors.stream import CHUNK_BYTES, Trailer
from lotteryfl.protos import lotteryfl_pb2 as pb

Part = TypeVar("Part", pb.AssignmentPart, pb.ResultPart, pb.BlobPart)
T = TypeVar("T")

HEADER_BYTES = 1 << 20
"""Most bytes of a message that is not a chunk."""

_CHUNK_KEY = pb.BlobPart.CHUNK_FIELD_NUMBER << 3 | 2
"""Protobuf's key of the field `chunk`, which has the same number in all three: wire type 2, bytes with a length."""


class MessageSizeError(PayloadError):
    """A message is too large to be looked at."""

    @classmethod
    def check(cls, message: bytes, most: int) -> None:
        """Raise where a message has more than so many bytes."""
        if len(message) > most:
            raise cls(f"a message has {len(message)} bytes: at most {most} are taken")


class Payload(Protocol):
    """Bytes to stream: `common.tensors.stream.TensorStream`, or a part of a file."""

    size: int
    is_at_hand: bool
    """Whether taking a piece costs next to nothing."""

    def __iter__(self) -> Iterator[memoryview]:
        """Yield the bytes in pieces of any size."""

    @property
    def trailer(self) -> Trailer:
        """Size and checksum, when all pieces have been taken."""


def frames(first: Part, payload: Payload, offset: int = 0) -> Iterator[bytes]:
    """Yield the messages that carry a payload, serialized; `first` has announced its size and the offset.

    What comes before the offset is taken too: size and checksum at the end are those of the whole payload.
    """
    yield first.SerializeToString()
    chunk: list[memoryview]
    for chunk in between_chunks(_chunks(_from(offset, payload))):
        yield b"".join((_chunk_head(sum(map(len, chunk))), *chunk))
    trailer = payload.trailer
    end = type(first)(trailer=pb.PayloadTrailer(size=trailer.size, crc32=trailer.crc32))
    yield end.SerializeToString()


def serialize(message: bytes | Message) -> bytes:
    """Serialize a stream's message; those of `frames` are so already."""
    return message if isinstance(message, bytes) else message.SerializeToString()


def deserializer(part: type[Part], header_bytes: int = HEADER_BYTES) -> Callable[[bytes], Part | memoryview]:
    """Return the function that reads a stream's messages: a chunk as a view of the message, others as they are.

    That function raises a `PayloadError` for bytes that are no such message, and a `MessageSizeError` where it would
    have to read more than `header_bytes` of them.
    """

    def deserialize(message: bytes) -> Part | memoryview:
        chunk = _chunk_of(message)
        if chunk is not None:
            return chunk
        MessageSizeError.check(message, header_bytes)
        try:
            return part.FromString(message)
        except DecodeError as error:
            raise PayloadError(f"a message of {len(message)} bytes is not one of the stream: {error}") from error

    return deserialize


def message_size(part: Message | memoryview) -> int:
    """Return the bytes of a message as it was received, a chunk's key and length included."""
    return memoryview(part.obj).nbytes if isinstance(part, memoryview) else part.ByteSize()


def take(receiver: Receiver[T], part: Part | memoryview) -> T | None:
    """Give a message after the first to the receiver; return the payload when it was the last one.

    Raises:
        PayloadError: the bytes are not what was announced, or the message has no place here.
    """
    if not receiver.is_open:
        raise PayloadError("expected the stream to end with its trailer, got another message")
    if isinstance(part, memoryview):
        receiver.write(part)
        return None
    kind = part.WhichOneof("part")
    if kind == "chunk":
        receiver.write(part.chunk)
        return None
    if kind == "trailer":
        return receiver.finish(Trailer(part.trailer.size, part.trailer.crc32))
    raise PayloadError(f"expected a chunk or the trailer, got {kind or 'an empty message'}")


def _from(offset: int, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
    for piece in pieces:
        yield piece[offset:]
        offset = max(0, offset - len(piece))


def _chunks(pieces: Iterable[memoryview]) -> Iterator[list[memoryview]]:
    """Put pieces together to chunks of CHUNK_BYTES, the last one shorter; nothing is copied."""
    chunk: list[memoryview] = []
    room = CHUNK_BYTES
    for piece in pieces:
        while len(piece) >= room:
            chunk.append(piece[:room])
            piece = piece[room:]
            yield chunk
            chunk, room = [], CHUNK_BYTES
        if piece:
            chunk.append(piece)
            room -= len(piece)
    if chunk:
        yield chunk


def _chunk_head(size: int) -> bytes:
    """Return a chunk message's bytes before the chunk: the field's key, and the length as a varint."""
    head = bytearray((_CHUNK_KEY,))
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head)


def _chunk_of(message: bytes) -> memoryview | None:
    """Return the chunk of a message that is just that; None is for protobuf to read."""
    if not message or message[0] != _CHUNK_KEY:
        return None
    size = 0
    for position in range(1, min(len(message), 6)):
        size |= (message[position] & 0x7F) << 7 * (position - 1)
        if message[position] <= 0x7F:
            chunk = memoryview(message)[position + 1 :]
            return chunk if len(chunk) == size else None
    return None
