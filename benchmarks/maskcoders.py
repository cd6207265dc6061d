"""Coders of masks that `mask_coding` was chosen from: each takes the packed masks of a model, and gives them back.

What needs constriction is there where it is installed.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from zstandard import ZstdCompressor, ZstdDecompressor

from lotteryfl.common import packedmasks
from lotteryfl.common.wire import maskcoding

Bytes = npt.NDArray[np.uint8]

_INVERTED = 0x80
"""Of a Rice code's second header: it codes the bits that are not set."""

_GOLDEN = (np.sqrt(5) - 1) / 2


class Coder(NamedTuple):
    """How one mask is coded."""

    encode: Callable[[Bytes], bytes]
    decode: Callable[[bytes, int], Bytes]
    """Of the coded bytes, and those of the mask."""


def zstd(plain: Bytes) -> bytes:
    """Compress bytes at level 1."""
    return ZstdCompressor(level=1).compress(plain.data)


def unzstd(coded: bytes, size: int | None = None) -> Bytes:
    """Undo `zstd`."""
    del size
    return np.frombuffer(ZstdDecompressor().decompress(coded), np.uint8)


def to_rice(packed: Bytes) -> bytes:
    """Code the gaps as Rice 1979, by numpy: low bits in planes, the rest unary; of whichever bits are fewer."""
    kept = packedmasks.count(packed)
    is_inverted = 2 * kept > 8 * packed.size
    if is_inverted:
        packed, kept = ~packed, 8 * packed.size - kept
    low_bits = _rice_bits(kept / (8 * packed.size))
    gaps = _gaps(packed)
    unary = np.zeros(int((gaps >> low_bits).sum()) + kept, np.bool_)
    unary[np.cumsum((gaps >> low_bits) + 1) - 1] = True
    planes = [np.packbits((gaps >> bit & 1).astype(np.bool_)) for bit in range(low_bits)]
    head = np.array([kept], "<u8").view(np.uint8), np.array([low_bits | is_inverted * _INVERTED], np.uint8)
    return np.concatenate((*head, *planes, np.packbits(unary))).tobytes()


def from_rice(coded: bytes, size: int) -> Bytes:
    """Undo `to_rice`."""
    raw = np.frombuffer(coded, np.uint8)
    kept, low_bits = int(raw[:8].view("<u8")[0]), int(raw[8]) & ~_INVERTED
    width = packedmasks.packed_size(kept)
    planes, unary = raw[9 : 9 + low_bits * width], raw[9 + low_bits * width :]
    ends = np.flatnonzero(np.unpackbits(unary).view(np.bool_))
    gaps = (np.diff(ends, prepend=-1) - 1) << low_bits
    for bit in range(low_bits):
        gaps |= np.unpackbits(planes[bit * width : (bit + 1) * width], count=kept).astype(np.intp) << bit
    packed = _kept_at(np.cumsum(gaps + 1) - 1, size)
    return ~packed if raw[8] & _INVERTED else packed


def to_ans(packed: Bytes) -> bytes:
    """Code a mask as `mask_coding = "ans"` does, and leave it packed where that is less."""
    coded = maskcoding.encode(packed)
    return (packed if coded is None else coded).tobytes()


def from_ans(coded: bytes, size: int) -> Bytes:
    """Undo `to_ans`."""
    raw = np.frombuffer(coded, np.uint8)
    return raw if raw.size == size else maskcoding.decode(raw, 8 * size, "mask")


def to_ranges_of_bits(packed: Bytes) -> bytes:
    """Code a mask bit by bit by constriction's range coder."""
    from constriction import stream

    kept, coder = packedmasks.count(packed), stream.queue.RangeEncoder()
    coder.encode(np.unpackbits(packed).astype(np.int32), _bernoulli(kept, packed.size))
    return kept.to_bytes(8, "little") + bytes(coder.get_compressed().tobytes())


def from_ranges_of_bits(coded: bytes, size: int) -> Bytes:
    """Undo `to_ranges_of_bits`."""
    from constriction import stream

    coder = stream.queue.RangeDecoder(np.frombuffer(coded[8:], np.uint32))
    bits = coder.decode(_bernoulli(int.from_bytes(coded[:8], "little"), size), 8 * size)
    return np.packbits(bits.astype(np.bool_))


CODERS = {"zstd": Coder(zstd, unzstd), "Rice": Coder(to_rice, from_rice)}
BY_BITS: dict[str, Coder] = {}
if find_spec("constriction"):
    CODERS["ANS"] = Coder(to_ans, from_ans)
    BY_BITS["range coder of bits"] = Coder(to_ranges_of_bits, from_ranges_of_bits)


def encode_each(masks: Sequence[Bytes], coder: Coder) -> list[bytes]:
    """Return the masks coded, every tensor's by its own density."""
    return [coder.encode(mask) for mask in masks]


def decode_each(coded: Sequence[bytes], masks: Sequence[Bytes], coder: Coder) -> list[Bytes]:
    """Return the masks, of the sizes that they have in `masks`."""
    return [coder.decode(part, mask.size) for part, mask in zip(coded, masks, strict=True)]


def _gaps(packed: Bytes) -> npt.NDArray[np.intp]:
    kept = np.flatnonzero(np.unpackbits(packed, bitorder="little").view(np.bool_))
    return np.diff(kept, prepend=-1) - 1


def _kept_at(kept: npt.NDArray[np.intp], size: int) -> Bytes:
    bits = np.zeros(8 * size, np.bool_)
    bits[kept] = True
    return np.packbits(bits, bitorder="little")


def _rice_bits(share: float) -> int:
    """Return how many low bits are best for gaps of bits of which so many are set (Kiely 2004, eq. 8)."""
    return max(0, 1 + int(np.floor(np.log2(np.log(_GOLDEN) / np.log1p(-share))))) if share else 0


def _bernoulli(kept: int, size: int) -> Any:
    from constriction import stream

    return stream.model.Bernoulli(kept / (8 * size), perfect=False)
