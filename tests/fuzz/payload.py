"""Targets: what reads a payload, from the messages of its stream to the values of a model."""

import zlib
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from lotteryfl.client.download import Download
from lotteryfl.common import packedmasks
from lotteryfl.common.errors import PayloadError
from lotteryfl.common.packedmasks import PackedMask
from lotteryfl.common.tensors.file import parse
from lotteryfl.common.tensors.receiver import MemoryReceiver
from lotteryfl.common.tensors.stream import TensorStream, Trailer
from lotteryfl.common.tensors.tensorreceiver import TensorReceiver
from lotteryfl.common.wire import maskcoding
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.framing import deserializer, frames
from lotteryfl.common.wire.payload import (
    mask_digest,
    mask_tensors,
    masks_from_entries,
    max_payload_bytes,
    pack_mask_update,
    unpack_mask_update,
)
from lotteryfl.common.wire.quantization import DTYPES as WIRE_DTYPES
from lotteryfl.common.wire.strategytensor import StrategyTensor, with_tensors
from lotteryfl.common.wire.table import TensorSpec, TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.fuzz.mutate import NUMBERS, join, mutate_bytes, mutate_messages, split

TABLE = TensorTable(
    (
        TensorSpec("a", torch.float32, (3, 5), "parameter", prunable=True),
        TensorSpec("b", torch.float32, (3,), "parameter", prunable=False),
        TensorSpec("c", torch.bfloat16, (2, 2, 2), "parameter", prunable=True),
        TensorSpec("d", torch.int64, (), "buffer", prunable=False),
        TensorSpec("e", torch.bool, (2,), "buffer", prunable=False),
        TensorSpec("f", torch.float64, (0, 4), "parameter", prunable=True),
    )
)
WITH_STRATEGYS = with_tensors(
    TABLE,
    (
        StrategyTensor("s", "shared", like="parameters", combine="kept", masked=True, fill=0.5),
        StrategyTensor("o", "own", (11,), dtype=torch.bool),
        StrategyTensor("u", "up", like="prunable", dtype=torch.float64),
    ),
)
LIMIT = 1 << 16
PARTS = (pb.AssignmentPart, pb.ResultPart, pb.BlobPart)


def _model(table: TensorTable = TABLE) -> dict[str, Tensor]:
    return {spec.name: torch.arange(-3, spec.numel - 3).to(spec.dtype).view(spec.shape) for spec in table}


def _masks(choice: int) -> dict[str, PackedMask]:
    """Return the masks that the receiver has: none, some, those that prune all, or those that prune nothing."""
    kept: tuple[dict[str, Tensor], ...] = (
        {},
        {"a": torch.arange(15) % 2, "f": torch.ones(0)},
        {"a": torch.zeros(15), "c": torch.zeros(8)},
        {"a": torch.ones(15), "c": torch.arange(8) % 3},
    )
    return {name: packedmasks.pack(mask) for name, mask in kept[choice % 4].items()}


def _encoded(entries: dict[str, Tensor]) -> bytes:
    return b"".join(TensorStream(entries))


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return _encoded(dict(sorted(one.items()))) == _encoded(dict(sorted(other.items())))


# -- a stream's messages: which of the three streams, the size announced, and the messages, each after its length


def stream(data: bytes) -> None:
    """What is taken is what was announced, and as the checksum says."""
    options, messages = data[:4].ljust(4, b"\0"), split(data[4:])
    part: type[Any] = PARTS[options[0] % 3]
    read: Callable[[bytes], Any] = deserializer(part)
    size = int.from_bytes(options[1:], "big")
    whole = Download[memoryview]().take(
        "payload",
        pb.PayloadHeader(size=size),
        map(read, messages),
        lambda announced: MemoryReceiver(announced, LIMIT, "payload"),
    )
    assert len(whole) == size


def stream_seeds() -> Iterable[bytes]:
    for number, part in enumerate(PARTS):
        payload = TensorStream({"w": torch.arange(40)})
        _, *messages = frames(part(), payload)
        yield bytes((number, 0, *divmod(payload.size, 256))) + join(messages)


def mutate_stream(data: bytes, random: Random) -> bytes:
    options, messages = data[:4].ljust(4, b"\0"), split(data[4:])
    part = PARTS[options[0] % 3]
    if random.random() < 0.5:
        new = part(chunk=random.randbytes(random.randrange(200)))
        if random.random() < 0.5:
            new = part(
                trailer=pb.PayloadTrailer(size=random.choice(NUMBERS[:-2]) % 2**64, crc32=random.getrandbits(32))
            )
        messages.insert(random.randrange(len(messages) + 1), new.SerializeToString())
    else:
        messages = mutate_messages(messages, random, mutate_bytes)
    if random.random() < 0.5:
        chunks = b"".join(messages[:-1])[: random.randrange(1, 2 * LIMIT)]
        trailer = pb.PayloadTrailer(size=len(chunks), crc32=zlib.crc32(chunks))
        carried = [part(chunk=chunks[start : start + 100]) for start in range(0, len(chunks), 100)]
        messages = [message.SerializeToString() for message in (*carried, part(trailer=trailer))]
        options = options[:1] + len(chunks).to_bytes(3, "big")
    return options + join(messages)


# -- a file


def file(data: bytes) -> None:
    """What is read, every safetensors reader reads, and to the same tensors."""
    tensors = parse(data, "file")
    assert _same(tensors, safetensors.torch.load(data))


def file_seeds() -> Iterable[bytes]:
    yield _encoded({})
    yield _encoded(_model())
    yield _encoded({"f16": torch.ones(3).half(), "i8": torch.arange(5, dtype=torch.int8), "größe": torch.ones(1, 0)})


# -- a file received in chunks: the size of the chunks, and the file


def received_file(data: bytes) -> None:
    """Received in chunks it is what it would be read as in one piece, or is refused as well."""
    step, payload = data[0] + 1 if data else 1, data[1:]
    try:
        whole = parse(payload, "file")
    except PayloadError:
        whole = None
    try:
        with TensorReceiver(len(payload), LIMIT, "file") as receiver:
            for start in range(0, len(payload), step):
                receiver.write(payload[start : start + step])
            tensors = receiver.finish(Trailer(len(payload), zlib.crc32(payload)))
    except PayloadError:
        assert whole is None or len(payload) > LIMIT
        raise
    assert whole is not None
    assert _same(tensors, whole)


def received_file_seeds() -> Iterable[bytes]:
    for step in (b"\0", b"\7", b"\xff"):
        yield from (step + seed for seed in file_seeds())


# -- masks: those that the receiver has, and the file


def mask_update(data: bytes) -> None:
    """Whatever comes, a mask only loses bits; and what is understood can be written and read again."""
    options, entries = data[0] if data else 0, parse(data[1:], "masks")
    if options & 4:
        new = masks_from_entries(TABLE, entries)
        assert mask_digest(masks_from_entries(TABLE, mask_tensors(new))) == mask_digest(new)
        return
    old = _masks(options)
    new = unpack_mask_update(TABLE, entries, old)
    assert all(packedmasks.is_subset(new[name], packed) for name, packed in old.items())
    assert mask_digest(unpack_mask_update(TABLE, pack_mask_update(new, old), old)) == mask_digest(new)


def mask_update_seeds() -> Iterable[bytes]:
    for choice in range(4):
        yield bytes((choice,)) + _encoded(pack_mask_update(_fewer(_masks(choice)), _masks(choice)))
        yield bytes((4,)) + _encoded(mask_tensors(_masks(choice)))


def _fewer(old: dict[str, PackedMask]) -> dict[str, PackedMask]:
    return {name: packed & np.uint8(0b1011_0111) for name, packed in old.items()} | ({} if old else _masks(3))


# -- a coded mask


CODED_NUMEL = 3001


def coded_mask(data: bytes) -> None:
    """What is understood is, to the byte, what the mask is coded as."""
    packed = maskcoding.decode(np.frombuffer(data, np.uint8), CODED_NUMEL, "mask")
    coded = maskcoding.encode(packed)
    assert coded is not None
    assert coded.tobytes() == data


def coded_mask_seeds() -> Iterable[bytes]:
    for density in (0.1, 0.0, 0.01, 0.9, 1.0):
        kept = np.random.default_rng(0).random(CODED_NUMEL) < density
        coded = maskcoding.encode(np.packbits(kept, bitorder="little"))
        assert coded is not None
        yield coded.tobytes()


# -- values: wire dtype, the masks that the receiver has and whether a strategy has tensors, and the file


def values(data: bytes) -> None:
    """What passes is finite, is exactly 0 where it is pruned, and is the same made whole and written into a model."""
    options, entries = data[0] if data else 0, parse(data[1:], "values")
    wire = _wire(options)
    new = unpack_mask_update(wire.table, entries, _masks(options >> 2))
    whole = wire.unpack(entries, new)
    model = {spec.name: torch.full(spec.shape, 7, dtype=spec.dtype) for spec in wire.rows}
    wire.unpack_into(entries, new, model)
    assert _same(whole, model)
    assert len(data) - 1 <= max_payload_bytes(wire.table) or any(key.startswith("mask/") for key in entries)
    for name, tensor in whole.items():
        assert not tensor.is_floating_point() or bool(tensor.isfinite().all())
        if (under := wire.table[name].under) in new:
            assert not tensor[~packedmasks.unpack(new[under], tensor.shape)].any()


def values_seeds() -> Iterable[bytes]:
    for options in (*range(16), 16 + 4, 16 + 8):
        choice = options >> 2 & 3
        old = _masks(choice)
        new = _fewer(old) if choice else old
        wire = _wire(options)
        yield bytes((options,)) + _encoded(pack_mask_update(new, old) | wire.pack(_model(wire.table), new))


def _wire(options: int) -> WireFormat:
    table, sends = (WITH_STRATEGYS, ("u:a",)) if options & 16 else (TABLE, ())
    return WireFormat(table, tuple(WIRE_DTYPES)[options % 4], sends=sends)


# -- the table


def table(data: bytes) -> None:
    """What is understood is written as text that is understood as the same."""
    found = TensorTable.from_json(data.decode(errors="replace"))
    assert TensorTable.from_json(found.to_json()) == found
    assert max_payload_bytes(found) > found.nbytes


def table_seeds() -> Iterable[bytes]:
    yield TABLE.to_json().encode()
    yield WITH_STRATEGYS.to_json().encode()
