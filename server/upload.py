"""An upload's messages, from the network into the run directory."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from common.channel import STREAM_IDLE_SECONDS
from common.framing import message_size, take
from common.receiver import FileReceiver
from protos import lotteryfl_pb2 as pb

Context = grpc.aio.ServicerContext[object, object]


class Upload:
    """One call's messages, as `common.framing.deserializer` gives them, and what they weigh."""

    def __init__(self, parts: AsyncIterator[pb.ResultPart | memoryview], context: Context) -> None:
        self._parts = parts
        self._context = context
        self.received = 0
        """Bytes of the messages so far."""

    async def header(self) -> pb.Result:
        """Return what the first message announces; nothing, where it is not a header."""
        part = await self._next()
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

    async def _next(self) -> pb.ResultPart | memoryview:
        """Return the next message; its sender tries again when none came, or no trailer."""
        try:
            async with asyncio.timeout(STREAM_IDLE_SECONDS):
                part = await anext(self._parts)
        except StopAsyncIteration:
            reason = "the stream ended before its trailer"
        except TimeoutError:
            reason = f"nothing came for {STREAM_IDLE_SECONDS:g} s"
        else:
            self.received += message_size(part)
            return part
        await self._context.abort(grpc.StatusCode.ABORTED, f"upload: {reason}")
        raise AssertionError
