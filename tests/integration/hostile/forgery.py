"""Uploads by hand: any bytes as a payload, announced and cut into messages in any way."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from zlib_ng import zlib_ng

from lotteryfl.common.tensors.layout import LENGTH_BYTES
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.handworker import Done

CHUNK = 1 << 16


def payload_of(entries: Mapping[str, Tensor]) -> bytes:
    return b"".join(TensorStream(entries))


def upload(
    result: pb.Result,
    payload: bytes,
    *,
    announced: int | None = None,
    chunks: Sequence[bytes] | None = None,
    trailer: pb.PayloadTrailer | None = None,
) -> list[bytes]:
    """Return header, chunks and trailer; what is not given is as it should be."""
    head = pb.Result()
    head.CopyFrom(result)
    size = len(payload) if announced is None else announced
    head.payload.CopyFrom(pb.PayloadHeader(size=size))
    if chunks is None:
        chunks = [payload[start : start + CHUNK] for start in range(0, len(payload), CHUNK)]
    end = trailer or pb.PayloadTrailer(size=len(payload), crc32=zlib_ng.crc32(payload))
    parts = [pb.ResultPart(result=head), *(pb.ResultPart(chunk=chunk) for chunk in chunks), pb.ResultPart(trailer=end)]
    return [part.SerializeToString() for part in parts]


def file_of(header: Mapping[str, Any] | bytes, data: bytes) -> bytes:
    """Return a safetensors file with this header, whatever it says."""
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text + data


def taken_apart(done: Done) -> tuple[dict[str, dict[str, Any]], bytes]:
    """Return header and data of a payload."""
    payload = payload_of(done.entries)
    start = LENGTH_BYTES + int.from_bytes(payload[:LENGTH_BYTES], "little")
    return json.loads(payload[LENGTH_BYTES:start]), payload[start:]
