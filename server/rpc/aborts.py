"""Calls that were refused, and their way out of memory."""

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from lotteryfl.server.rpc.context import Context, Continuation

_KINDS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}


class ForgottenAborts(grpc.aio.ServerInterceptor):
    """Lets go of all that a call held when it was aborted; of all interceptors this must be the first.

    grpc.aio keeps an aborted call's exception with the call, and the exception keeps the frames that it came through,
    and these the call and its request: a circle that is not always collected. Whoever has calls of 4 MB
    refused would fill the memory.
    """

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Stand around the method's handler."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        kind = _KINDS[handler.request_streaming, handler.response_streaming]
        inner = getattr(handler, kind)
        return handler._replace(**{kind: _stream(inner) if inspect.isasyncgenfunction(inner) else _reply(inner)})


def _reply(inner: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def reply(request: Any, context: Any) -> Any:
        try:
            return await inner(request, context)
        except grpc.aio.AbortError as error:
            request = context = None
            raise _bare(error) from None

    return reply


def _stream(inner: Callable[[Any, Context], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        messages = message = None
        try:
            async with contextlib.aclosing(inner(request, context)) as messages:  # type: ignore[type-var]
                async for message in messages:
                    yield message
        except grpc.aio.AbortError as error:
            request = context = messages = message = None
            raise _bare(error) from None

    return stream


def _bare(error: grpc.aio.AbortError) -> grpc.aio.AbortError:
    """Return the very same error, as grpc.aio wants it, without what led to it."""
    error.__context__ = None
    return error.with_traceback(None)
