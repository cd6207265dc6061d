"""One payload, taken in chunks into memory or a file; whatever is not exactly what was announced is refused."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Generic, NoReturn, Self, TypeVar

import numpy as np
from zlib_ng import zlib_ng

from lotteryfl.common.disk.atomicfile import AtomicFile
from lotteryfl.common.errors import PayloadError
from lotteryfl.common.tensors.stream import Trailer

T = TypeVar("T")


class Receiver(ABC, Generic[T]):
    """Takes one payload in chunks, and refuses everything that is not exactly what was announced.

    An upload that dies midway looks like a normal end of stream to an aio server: only `finish`, with the
    stream's last message, makes a payload whole. As a context manager it discards what was not finished.

    Args:
        size: bytes announced by the sender.
        limit: most bytes that are taken, known before the sender said anything.
        what: names the payload in errors.

    Raises:
        PayloadError: `size` is more than `limit`; nothing has been allocated.
    """

    def __init__(self, size: int, limit: int, what: str) -> None:
        if not 0 <= size <= limit:
            raise PayloadError(f"{what}: {size} bytes announced, at most {limit} are taken")
        self.size = size
        """Bytes announced."""
        self.received = 0
        """Bytes taken so far."""
        self._what = what
        self._crc32 = 0
        self.is_open = True
        """Whether it takes more: it is neither finished nor discarded."""

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next chunk.

        Raises:
            PayloadError: more bytes than announced; what came before is discarded.
            ValueError: the payload is finished, refused or discarded already.
        """
        self._require_open()
        view = memoryview(chunk).cast("B")
        end = self.received + len(view)
        if end > self.size:
            self._refuse(f"{end} bytes received, {self.size} announced")
        self._put(view)
        self._crc32 = zlib_ng.crc32(view, self._crc32)
        self.received = end

    def finish(self, trailer: Trailer | None) -> T:
        """Check the payload against the stream's last message (None: there was none), and return it.

        Raises:
            PayloadError: no trailer, too few bytes, or the wrong checksum; what came is discarded.
            ValueError: the payload is finished, refused or discarded already.
        """
        self._require_open()
        if trailer is None:
            self._refuse(f"the stream ended after {self.received} of {self.size} bytes, without a trailer")
        if not trailer.size == self.received == self.size:
            self._refuse(f"{self.received} bytes received, {self.size} announced, {trailer.size} in the trailer")
        if trailer.crc32 != self._crc32:
            self._refuse(f"checksum {self._crc32:08x}, expected {trailer.crc32:08x}")
        result = self._complete()
        self.is_open = False
        return result

    def discard(self) -> None:
        """Drop what was received; without effect on a finished payload."""
        if self.is_open:
            self.is_open = False
            self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    @abstractmethod
    def _put(self, chunk: memoryview) -> None: ...

    @abstractmethod
    def _complete(self) -> T: ...

    @abstractmethod
    def _drop(self) -> None: ...

    def _require_open(self) -> None:
        if not self.is_open:
            raise ValueError(f"{self._what}: this payload is finished, refused or discarded already")

    def _refuse(self, reason: str) -> NoReturn:
        self.discard()
        raise PayloadError(f"{self._what}: {reason}")


class MemoryReceiver(Receiver[memoryview]):
    """Receives into one buffer, allocated once; `finish` returns it, writable."""

    def __init__(self, size: int, limit: int, what: str) -> None:
        super().__init__(size, limit, what)
        self._buffer = np.empty(size, np.uint8).data

    def _put(self, chunk: memoryview) -> None:
        self._buffer[self.received : self.received + len(chunk)] = chunk

    def _complete(self) -> memoryview:
        return self._buffer

    def _drop(self) -> None:
        self._buffer = memoryview(b"")


class FileReceiver(Receiver[Path]):
    """Receives into a file; it is on disk under its name when `finish` returns that, and not there before."""

    def __init__(self, path: Path, size: int, limit: int, what: str, label: str = "") -> None:
        super().__init__(size, limit, what)
        self._part = AtomicFile(path, label=label)
        self.look: Callable[[AtomicFile], object] = lambda _: None
        """What is done with the whole file while it gets on disk; what it raises is that of `finish`."""

    def _put(self, chunk: memoryview) -> None:
        self._part.write(chunk, self.received)

    def _complete(self) -> Path:
        with self._part.synced_meanwhile():
            self.look(self._part)
        self._part.commit()
        return self._part.path

    def _drop(self) -> None:
        self._part.discard()
