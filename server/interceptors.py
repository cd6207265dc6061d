"""What happens to every call before the service sees it."""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health

from common.framing import deserializer, serialize
from common.identity import Identity, IdentityError, Role, printable
from protos import lotteryfl_pb2 as pb
from server.workers import name_of

Context = grpc.aio.ServicerContext[Any, Any]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]
Identify = Callable[[Context], Identity]
"""Finds out who calls, or raises IdentityError."""

CALLER: ContextVar[Identity | None] = ContextVar("CALLER")
"""Who makes the call that is being answered; None: nobody was asked."""

_log = logging.getLogger("lotteryfl.coordinator")

_SERVICE = f"/{pb.DESCRIPTOR.services_by_name['Coordinator'].full_name}/"
_HEALTH = f"/{health.SERVICE_NAME}/"
_OBSERVING = {f"{_SERVICE}{name}" for name in ("GetRun", "WatchRun", "FetchModel")}


class Authentication(grpc.aio.ServerInterceptor):
    """Asks who calls before anything of the call's body is read, and lets workers act as themselves alone.

    gRPC reads a request before its handler runs. So every handler becomes one of a stream of requests, which it reads
    itself when it has seen who calls; callers cannot tell the difference.
    """

    def __init__(self, identify: Sequence[Identify]) -> None:
        """Set how callers show who they are: in all of these ways, each time as the same; none: not at all."""
        self._identify = identify

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Guard the method, unless it is one of the health service."""
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_HEALTH):
            return handler
        admitted = self._admission(method, streams=handler.request_streaming)
        if handler.response_streaming:
            replies = handler.stream_stream or handler.unary_stream

            async def stream(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
                async with contextlib.aclosing(replies(await admitted(requests, context), context)) as messages:
                    async for message in messages:
                        yield message

            return grpc.stream_stream_rpc_method_handler(
                stream, handler.request_deserializer, handler.response_serializer
            )
        reply = handler.stream_unary or handler.unary_unary

        async def unary(requests: AsyncIterator[Any], context: Context) -> Any:
            return await reply(await admitted(requests, context), context)

        return grpc.stream_unary_rpc_method_handler(unary, handler.request_deserializer, handler.response_serializer)

    def _admission(self, method: str, *, streams: bool) -> Callable[[AsyncIterator[Any], Context], Awaitable[Any]]:
        """Return what turns a guarded call's messages into what its handler takes."""

        async def admitted(requests: AsyncIterator[Any], context: Context) -> Any:
            caller = await self._caller(context)
            if caller is not None and not _may_call(caller.role, method):
                reason = f"{caller.name} is an {caller.role}, and this call is for workers"
                await _abort(context, grpc.StatusCode.PERMISSION_DENIED, reason)
            CALLER.set(caller)
            own = requests if caller is None else _own(requests, caller, context)
            if streams:
                return own
            try:
                return await anext(own)
            except StopAsyncIteration:
                await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "the call brought no message")
            except DecodeError:
                await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "the call's message is not one of the contract")

        return admitted

    async def _caller(self, context: Context) -> Identity | None:
        try:
            found = {identify(context) for identify in self._identify}
        except IdentityError as error:
            await _abort(context, grpc.StatusCode.UNAUTHENTICATED, str(error))
        if len(found) > 1:
            await _abort(context, grpc.StatusCode.UNAUTHENTICATED, "certificate and token are not of the same peer")
        return found.pop() if found else None


class TensorStreams(grpc.aio.ServerInterceptor):
    """Lets streams of tensors pass as `common.framing` makes and reads their messages."""

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Replace the serializers that were generated for them."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        if handler.request_streaming and handler_call_details.method.endswith("/SubmitResult"):
            return handler._replace(request_deserializer=deserializer(pb.ResultPart))
        if handler.response_streaming:
            return handler._replace(response_serializer=serialize)
        return handler


def by_certificate(context: Context) -> Identity:
    """Return whom the certificate of a call's connection shows.

    Raises:
        IdentityError: it does not say.
    """
    peer = context.auth_context()
    uris, names = ([str(value, "utf-8", "replace") for value in peer.get(key, ())] for key in _CERTIFICATE)
    return Identity.of_certificate(uris, names)


_CERTIFICATE = ("peer_uri", "x509_common_name")


def by_token(identify: Callable[[str], Identity]) -> Identify:
    """Return what finds out who calls by the token that the call carries."""

    def identify_call(context: Context) -> Identity:
        values = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
        kind, _, token = str(values[0]).partition(" ") if len(values) == 1 else ("", "", "")
        if kind != "Bearer":
            raise IdentityError("a token is wanted: give --token-file, or LOTTERYFL_TOKEN in the environment")
        return identify(token)

    return identify_call


def _may_call(role: Role, method: str) -> bool:
    return role is Role.WORKER or method in _OBSERVING or not method.startswith(_SERVICE)


async def _own(requests: AsyncIterator[Any], caller: Identity, context: Context) -> AsyncIterator[Any]:
    """Pass messages on that the caller sends as itself, or as nobody."""
    async for message in requests:
        name = _acting_as(message)
        if name is not None and not caller.owns(name):
            reason = f"{caller.name} may act as {caller.name} or {caller.name}/…, not as {printable(name[:80])!r}"
            await _abort(context, grpc.StatusCode.PERMISSION_DENIED, reason)
        yield message


def _acting_as(message: Message | memoryview) -> str | None:
    """Return the name of the worker that a message says it is from; None: it need not say."""
    if isinstance(message, pb.RegisterRequest):
        return message.name
    sender = message.result if isinstance(message, pb.ResultPart) and message.HasField("result") else message
    return name_of(sender.worker_id) if hasattr(sender, "worker_id") else None


async def _abort(context: Context, code: grpc.StatusCode, reason: str) -> NoReturn:
    _log.info("%s: %s: %s", context.peer(), code.name, reason)
    await context.abort(code, reason)
    raise AssertionError
