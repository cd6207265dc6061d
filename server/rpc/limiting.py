"""Keeps every call within the limits, from its first byte to the last one that is read of its answer."""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from lotteryfl.common.tensors.stream import CHUNK_BYTES
from lotteryfl.common.wire.framing import MessageSizeError, message_size
from lotteryfl.server.rpc.context import CALLER, HEALTH, SERVICE, Context, Continuation, abort, bind_call
from lotteryfl.server.rpc.limits import LimitError, Limits, check_texts
from lotteryfl.server.rpc.quotas import Rate, Shares

T = TypeVar("T")

_WATCHES = {f"{SERVICE}WatchRun", f"{HEALTH}Watch"}
_REGISTER = f"{SERVICE}Register"
_TENSORS = f"{SERVICE}SubmitResult"


class Limiting(grpc.aio.ServerInterceptor):
    """Counts calls by their caller, and does not wait for ever on either side of one.

    Every handler becomes one of streams, whatever it was: so its first message is waited for here, and the last one
    of its answer is seen to leave. Callers cannot tell the difference.
    """

    def __init__(self, limits: Limits) -> None:
        """Set the limits."""
        self._limits = limits
        self._calls = Shares("calls", limits.calls_per_caller)
        self._watches = Shares("calls that wait for news", limits.watches_per_caller)
        self._registrations = Rate("registrations", limits.registrations_per_minute)

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Limit the method."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method

        async def limited(requests: AsyncIterator[Any], context: Context) -> None:
            try:
                with self._share(_who(context), method):
                    await self._answer(handler, self._arriving(requests, context), context)
            except LimitError as error:
                await abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
            except (DecodeError, MessageSizeError) as error:
                await abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"a message of the call is none: {error}")

        deserialize = handler.request_deserializer
        if method != _TENSORS:
            deserialize = _bounded(self._limits.header_bytes, deserialize)
        return grpc.stream_stream_rpc_method_handler(limited, deserialize, handler.response_serializer)

    @contextlib.contextmanager
    def _share(self, who: str, method: str) -> Iterator[None]:
        """Count a call while it is under way."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._calls.one(who))
            if method in _WATCHES:
                stack.enter_context(self._watches.one(who))
            if method == _REGISTER:
                self._registrations.count(who)
            yield

    async def _answer(self, handler: Any, requests: AsyncGenerator[Any, None], context: Context) -> None:
        """Have a call answered by its handler, of whichever kind that is."""
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        answer = behaviour(requests if handler.request_streaming else await _only(requests, context), context)
        if inspect.isawaitable(answer):
            reply = await answer
            if handler.response_streaming:
                return  # the standard health service writes its messages by itself
            answer = _stream_of(reply)
        async with contextlib.aclosing(answer):
            async for message in answer:
                try:
                    async with asyncio.timeout(self._limits.idle_seconds):
                        await context.write(message)
                except TimeoutError:
                    break
            else:
                return
        # What the handler held is free by now. The call itself is its caller's until that reads this, or is gone.
        reason = f"nothing of the answer was read for {self._limits.idle_seconds:g} s"
        await abort(context, grpc.StatusCode.DEADLINE_EXCEEDED, reason)

    async def _arriving(self, requests: AsyncIterator[Any], context: Context) -> AsyncGenerator[Any, None]:
        """Pass a call's messages on that come in time and are within bounds.

        Only waiting for the caller counts, not what is done between its messages. A chunk's worth of bytes gives it
        the whole time again: a trickle of tiny messages does not.
        """
        now = asyncio.get_running_loop().time
        left, due, is_first = self._limits.request_seconds, 0, True
        while True:
            waiting_since = now()
            try:
                async with asyncio.timeout(left):
                    message = await anext(requests)
                if isinstance(message, Message):
                    check_texts(message, self._limits.text)
                if is_first:
                    bind_call(message)
            except StopAsyncIteration:
                return
            except TimeoutError:
                await abort(context, grpc.StatusCode.DEADLINE_EXCEEDED, "the call's messages come too slowly")
            except MessageSizeError as error:
                if is_first:
                    raise LimitError(str(error)) from error
                raise  # the handler has begun to answer, and knows what such a message means
            except ValueError as error:
                await abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
            left -= now() - waiting_since
            due -= message_size(message)
            if due <= 0 or is_first:
                left, due, is_first = self._limits.idle_seconds, CHUNK_BYTES, False
            yield message


async def _only(requests: AsyncGenerator[Any, None], context: Context) -> Any:
    """Return the message of a call that has but one."""
    try:
        async with contextlib.aclosing(requests):
            return await anext(requests)
    except StopAsyncIteration:
        await abort(context, grpc.StatusCode.INVALID_ARGUMENT, "the call brought no message")


async def _stream_of(message: Any) -> AsyncIterator[Any]:
    yield message


def _bounded(most: int, deserialize: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """Return what reads messages up to a size, and only those."""

    def read(message: bytes) -> T:
        MessageSizeError.check(message, most)
        return deserialize(message)

    return read


def _who(context: Context) -> str:
    caller = CALLER.get(None)
    return context.peer().rpartition(":")[0] if caller is None else caller.name
