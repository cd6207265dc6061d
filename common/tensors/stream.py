"""Tensors as the bytes of a safetensors file, in chunks to send, without copying them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from zlib_ng import zlib_ng

from lotteryfl.common.tensors.layout import lay_out

CHUNK_BYTES = 1 << 20
"""Size of every chunk of a stream but the last: the fastest over gRPC of 64 KiB to 4 MiB."""


class Trailer(NamedTuple):
    """The end of a stream: what makes it whole."""

    size: int
    crc32: int


@dataclass(frozen=True)
class Deferred:
    """A tensor that is made when its turn comes, and let go when it has been sent."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]
    """Returns the tensor, of this dtype and shape; called in every iteration."""


class TensorStream:
    """Named tensors as the bytes of a safetensors file, in pieces of at most CHUNK_BYTES, without copying them.

    Pieces are slices of the tensors' own storage. Every iteration starts from the first byte, so that a retry sends
    everything; the tensors must not change meanwhile. A tensor that is not contiguous or not on the CPU is copied
    when its turn comes.

    Args:
        tensors: by name; any shape, also of no dimensions or no elements.

    Raises:
        TypeError: safetensors has no name for a tensor's dtype.
        ValueError: a tensor is called `__metadata__`, or there are more names than a header holds.
    """

    def __init__(self, tensors: Mapping[str, Tensor | Deferred]) -> None:
        self._header, entries = lay_out((name, t.dtype, t.shape) for name, t in tensors.items())
        self._tensors = [tensors[entry.name] for entry in entries]
        self._crc32: int | None = None
        self.size = len(self._header) + (entries[-1].end if entries else 0)
        """Bytes in all pieces together."""
        self.is_at_hand = not any(isinstance(tensor, Deferred) for tensor in self._tensors)
        """Whether taking a piece costs next to nothing, as no tensor is made for it."""

    def __iter__(self) -> Iterator[memoryview]:
        crc32 = 0
        for whole in self._parts():
            for start in range(0, len(whole), CHUNK_BYTES):
                piece = whole[start : start + CHUNK_BYTES]
                crc32 = zlib_ng.crc32(piece, crc32)
                yield piece
        self._crc32 = crc32

    @property
    def trailer(self) -> Trailer:
        """Size and checksum of the pieces.

        Raises:
            ValueError: no iteration has come to its end yet.
        """
        if self._crc32 is None:
            raise ValueError("the checksum is known when all pieces have been taken")
        return Trailer(self.size, self._crc32)

    def _parts(self) -> Iterator[memoryview]:
        yield memoryview(self._header)
        for tensor in self._tensors:
            yield data_of(tensor.make() if isinstance(tensor, Deferred) else tensor)


def data_of(tensor: Tensor) -> memoryview:
    """Return a tensor's bytes in flat order: its own storage where it is contiguous and on the CPU."""
    if tensor.numel() == 0:
        return memoryview(b"")
    flat = tensor.detach().cpu().contiguous().view(-1)
    return flat.view(torch.uint8).numpy().data.toreadonly()
