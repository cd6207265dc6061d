"""Uploads, from the network into the run directory, over as many streams as they take."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import grpc

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.tensors.receiver import FileReceiver
from lotteryfl.common.wire.framing import message_size, take
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rpc.context import Context


class CutUploads:
    """What has arrived of uploads whose stream was cut, until their next stream comes or their round is over."""

    def __init__(self, most: int) -> None:
        """Set how many are kept, each an open file: the oldest go first."""
        self._most = most
        self._receivers: dict[tuple[str, str], FileReceiver] = {}

    def keep(self, result: pb.Result, receiver: FileReceiver) -> None:
        """Keep what has arrived of a result, in the place of what an earlier stream of it has brought."""
        if older := self._receivers.pop(_key(result), None):
            older.discard()
        self._receivers[_key(result)] = receiver
        if len(self._receivers) > self._most:
            self._receivers.pop(next(iter(self._receivers))).discard()

    def received(self, worker_id: str, assignment_id: str) -> int:
        """Return how many bytes have arrived of a worker's result."""
        receiver = self._receivers.get((worker_id, assignment_id))
        return 0 if receiver is None else receiver.received

    def take(self, result: pb.Result) -> FileReceiver | None:
        """Return what has arrived of a result, if that is what its stream leaves out; it is forgotten in any case."""
        receiver = self._receivers.pop(_key(result), None)
        if receiver is None or (receiver.received, receiver.size) == (result.payload.offset, result.payload.size):
            return receiver
        receiver.discard()
        return None

    def discard(self) -> None:
        """Forget all."""
        while self._receivers:
            self._receivers.popitem()[1].discard()

    def close(self) -> None:
        """Forget all, and keep no more."""
        self._most = 0
        self.discard()


def _key(result: pb.Result) -> tuple[str, str]:
    return result.worker_id, result.assignment_id


class Upload:
    """One call's messages, as `common.wire.framing.deserializer` gives them, and what they weigh."""

    def __init__(self, parts: AsyncIterator[pb.ResultPart | memoryview], context: Context) -> None:
        self._parts = parts
        self._context = context
        self.received = 0
        """Bytes of the messages so far."""

    async def header(self) -> pb.Result:
        """Return what the first message announces; nothing, where it is not a header."""
        try:
            part = await self._next()
        except PayloadError:
            return pb.Result()
        return part.result if isinstance(part, pb.ResultPart) else pb.Result()

    async def into(self, receiver: FileReceiver) -> None:
        """Give all messages after the first to the receiver, each in a thread while the next one arrives.

        Raises:
            PayloadError: the bytes are not what was announced, or a message has no place here.
            OSError: they cannot be written.
        """
        taking: asyncio.Future[Path | None] = asyncio.ensure_future(asyncio.sleep(0, None))
        try:
            whole = None
            while whole is None:
                part = await self._next()
                await taking
                taking = asyncio.ensure_future(asyncio.to_thread(take, receiver, part))
                if not isinstance(part, memoryview):
                    whole = await taking
        finally:
            await asyncio.wait((taking,))  # whoever discards the receiver has it alone

    async def abort(self, reason: str) -> NoReturn:
        """End the call; its sender tries again."""
        await self._context.abort(grpc.StatusCode.ABORTED, f"upload: {reason}")
        raise AssertionError

    async def _next(self) -> pb.ResultPart | memoryview:
        """Return the next message; its sender tries again when none came, or no trailer."""
        try:
            part = await anext(self._parts)
        except StopAsyncIteration:
            await self.abort("the stream ended before its trailer")
        self.received += message_size(part)
        return part
