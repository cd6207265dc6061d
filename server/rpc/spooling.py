"""The messages of an upload on their way into a file: many, or few of many bytes, in one piece of work."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from lotteryfl.common.disk.atomicfile import AtomicFile
from lotteryfl.common.tensors.receiver import FileReceiver
from lotteryfl.common.tensors.stream import CHUNK_BYTES
from lotteryfl.common.wire.framing import message_size, take
from lotteryfl.protos import lotteryfl_pb2 as pb

_MOST_HELD = 8
"""Messages of an upload that are written together, unless they are a chunk's worth of bytes before."""

_HELD_SECONDS = 0.2
"""How long they are held at most: senders that send no more are not to fill the memory."""


class Spool:
    """An upload on its way into a file of its own, which is made when its first bytes are written."""

    def __init__(self, opened: Callable[[], FileReceiver], receiver: FileReceiver | None) -> None:
        """Begin, or go on.

        Args:
            opened: makes the file.
            receiver: what an earlier stream of the upload has left.
        """
        self._opened = opened
        self.receiver = receiver
        """What has been written; None: nothing."""
        self.look: Callable[[AtomicFile], object] = lambda _: None
        """What is done with the file when it is whole, while it gets on disk."""

    def take(self, parts: Iterable[pb.ResultPart | memoryview]) -> Path | None:
        """Write messages; return the file when it is whole, and on disk.

        Raises:
            PayloadError: the bytes are not what was announced, or a message has no place here.
            OSError: they cannot be written.
        """
        if self.receiver is None:
            self.receiver = self._opened()
        self.receiver.look = self.look
        whole = None
        for part in parts:
            whole = take(self.receiver, part)
        return whole

    def discard(self) -> None:
        """Drop what was written; without effect on a file that is whole."""
        if self.receiver is not None:
            self.receiver.discard()


class Batch:
    """Messages that are written together: a chunk's worth, or what came before nothing more did for a moment."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._held: list[pb.ResultPart | memoryview] = []
        self._bytes = 0
        self._writing: asyncio.Future[Path | None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_full(self) -> bool:
        """Whether it is to be written."""
        return len(self._held) >= _MOST_HELD or self._bytes >= CHUNK_BYTES

    def hold(self, part: pb.ResultPart | memoryview) -> None:
        """Add a message."""
        self._held.append(part)
        self._bytes += message_size(part)
        self._arm()

    async def write(self) -> None:
        """Begin to write what is held, when what was held before is written."""
        await self._written()
        self._begin()

    async def rest(self) -> list[pb.ResultPart | memoryview]:
        """Return what is held, when all before is written."""
        await self._written()
        return self._held

    async def keep(self) -> None:
        """Write what is held after all.

        Raises:
            PayloadError, OSError: as of `Spool.take`, of what was held before: nothing is written after it.
        """
        await self.end()
        if self._writing is not None:
            self._writing.result()
        self._begin()

    async def end(self) -> None:
        """Wait until nothing is written any more; whether that went well is not asked."""
        self._disarm()
        if self._writing is not None and not self._writing.done():
            await asyncio.wait((self._writing,))

    async def _written(self) -> None:
        self._disarm()
        if self._writing is not None:
            await asyncio.shield(self._writing)  # whoever waits may be cut: its thread goes on, and has the file alone

    def _begin(self) -> None:
        held, self._held, self._bytes = self._held, [], 0
        self._writing = asyncio.ensure_future(asyncio.to_thread(self._spool.take, held))

    def _overdue(self) -> None:
        self._timer = None
        if self._writing is not None and not self._writing.done():
            self._arm()
        elif self._writing is None or self._writing.exception() is None:  # what failed is met by who writes next
            self._begin()

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_HELD_SECONDS, self._overdue)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
