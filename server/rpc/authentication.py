"""Who makes a call, and whether it may, before the service sees it."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message

from lotteryfl.common.security.identity import Identity, IdentityError, Role, name_of
from lotteryfl.common.text import printable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rpc.context import CALLER, HEALTH, SERVICE, Context, Continuation, abort

Identify = Callable[[Context], Identity]
"""Finds out who calls, or raises IdentityError."""

_OBSERVING = {
    f"{SERVICE}{name}" for name in ("GetRun", "WatchRun", "GetFleet", "GetClients", "GetEvents", "FetchModel")
}


class Authentication(grpc.aio.ServerInterceptor):
    """Asks who calls before anything of the call's body is read, and lets workers act as themselves alone.

    The next interceptor is `limiting`'s, which makes every handler one of streams: a call's messages are read only when
    that asks for them.
    """

    def __init__(self, identify: Sequence[Identify]) -> None:
        """Set how callers show who they are: in all of these ways, each time as the same; none: not at all."""
        self._identify = identify

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Guard the method, unless it is one of the health service."""
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(HEALTH):
            return handler

        async def guarded(requests: AsyncIterator[Any], context: Context) -> None:
            caller = await self._caller(context)
            if caller is not None and not _may_call(caller.role, method):
                reason = f"{caller.name} is an {caller.role}, and this call is for workers"
                await abort(context, grpc.StatusCode.PERMISSION_DENIED, reason)
            CALLER.set(caller)
            await handler.stream_stream(requests if caller is None else _own(requests, caller, context), context)

        return handler._replace(stream_stream=guarded)

    async def _caller(self, context: Context) -> Identity | None:
        try:
            found = {identify(context) for identify in self._identify}
        except IdentityError as error:
            await abort(context, grpc.StatusCode.UNAUTHENTICATED, str(error))
        if len(found) > 1:
            await abort(context, grpc.StatusCode.UNAUTHENTICATED, "certificate and token are not of the same peer")
        return found.pop() if found else None


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
    return role is Role.WORKER or method in _OBSERVING or not method.startswith(SERVICE)


async def _own(requests: AsyncIterator[Any], caller: Identity, context: Context) -> AsyncIterator[Any]:
    """Pass messages on that the caller sends as itself, or as nobody."""
    async for message in requests:
        name = _acting_as(message)
        if name is not None and not caller.owns(name):
            reason = f"{caller.name} may act as {caller.name} or {caller.name}/…, not as {printable(name[:80])!r}"
            await abort(context, grpc.StatusCode.PERMISSION_DENIED, reason)
        yield message


def _acting_as(message: Message | memoryview) -> str | None:
    """Return the name of the worker that a message says it is from; None: it need not say."""
    if isinstance(message, pb.RegisterRequest):
        return message.name
    sender = message.result if isinstance(message, pb.ResultPart) and message.HasField("result") else message
    return name_of(sender.worker_id) if hasattr(sender, "worker_id") else None
