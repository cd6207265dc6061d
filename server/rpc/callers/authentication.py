"""Who makes a call, and whether it may, before the service sees it."""

from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

import grpc

from lotteryfl.common.names import WorkerId
from lotteryfl.common.security.identity import Identity, IdentityError, Role
from lotteryfl.common.security.tls import is_loopback
from lotteryfl.common.text import printable
from lotteryfl.server.rpc.callers.admitted import Admitted, Way
from lotteryfl.server.rpc.context import CALLER, HEALTH, SERVICE, Context, Continuation, abort, sender_of
from lotteryfl.server.security.revoked import RevokedCertificates
from lotteryfl.server.security.tokens import TokenFile

_OBSERVING = {
    f"{SERVICE}{name}"
    for name in ("GetRun", "WatchRun", "GetFleet", "GetClients", "GetRounds", "GetEvents", "FetchModel")
}
_STEERING = {f"{SERVICE}SteerRun"}


class Authentication(grpc.aio.ServerInterceptor):
    """Asks who calls before anything of the call's body is read, and lets workers act as themselves alone.

    The next interceptor is `limiting`'s, which makes every handler one of streams: a call's messages are read only when
    that asks for them.
    """

    def __init__(self, admitted: Admitted | None) -> None:
        """Set who is let in; None: everybody is."""
        self._admitted = admitted

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Guard the method, unless it is one of the health service."""
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(HEALTH):
            return handler

        async def guarded(requests: AsyncIterator[Any], context: Context) -> None:
            admitted, caller = self._admitted, None
            try:
                shown = admitted.shown(context) if admitted else ()
                caller = admitted.identify(shown) if admitted else None
                if reason := _why_not(caller, method, context):
                    await abort(context, grpc.StatusCode.PERMISSION_DENIED, reason)
                CALLER.set(caller)
                if admitted is None or caller is None:
                    await handler.stream_stream(requests, context)
                    return
                async with admitted.call(shown):
                    own = _own(requests, caller, context, lambda worker_id: admitted.note(worker_id, shown))
                    await handler.stream_stream(own, context)
            except IdentityError as error:
                await abort(context, grpc.StatusCode.UNAUTHENTICATED, str(error))

        return handler._replace(stream_stream=guarded)


class _Certificate(NamedTuple):
    """What of a connection's certificate is looked at."""

    uris: tuple[str, ...]
    common_names: tuple[str, ...]
    pem: bytes


def by_certificate(revoked: RevokedCertificates | None = None) -> Way:
    """Return what finds out who calls by the certificate of a call's connection.

    Args:
        revoked: certificates that do not count; None: all do.
    """

    def shown(context: Context) -> _Certificate:
        peer = context.auth_context()
        uris, names = (tuple(str(value, "utf-8", "replace") for value in peer.get(key, ())) for key in _NAMES)
        return _Certificate(uris, names, b"".join(peer.get("x509_pem_cert", ())))

    def identify(certificate: _Certificate) -> Identity:
        identity = Identity.of_certificate(certificate.uris, certificate.common_names)
        if revoked is not None:
            revoked.check(certificate.pem)
        return identity

    return Way(shown, identify, lambda: revoked.version if revoked else ())


_NAMES = ("peer_uri", "x509_common_name")


def by_token(tokens: TokenFile) -> Way:
    """Return what finds out who calls by the token that the call carries."""

    def shown(context: Context) -> str:
        values = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
        kind, _, token = str(values[0]).partition(" ") if len(values) == 1 else ("", "", "")
        if kind != "Bearer":
            raise IdentityError("a token is wanted: give --token-file, or LOTTERYFL_TOKEN in the environment")
        return token

    return Way(shown, tokens.identify, lambda: tokens.version)


def _why_not(caller: Identity | None, method: str, context: Context) -> str:
    """Say why a call may not be made by who makes it; '': it may."""
    if caller is None:
        is_here = method not in _STEERING or is_loopback(_address(context))
        return "" if is_here else "nobody is asked who they are here: a run is then steered on its own machine alone"
    if method in _OBSERVING or not method.startswith(SERVICE):
        return ""
    wanted = Role.OPERATOR if method in _STEERING else Role.WORKER
    return (
        "" if caller.role is wanted else f"{caller.name} is {caller.role.with_article}, and this call is for {wanted}s"
    )


def _address(context: Context) -> str:
    """Return where a call comes from, as people write it: gRPC says ipv4:HOST:PORT, ipv6:%5BHOST%5D:PORT or unix:."""
    return unquote(context.peer()).removeprefix("ipv4:").removeprefix("ipv6:")


async def _own(
    requests: AsyncIterator[Any], caller: Identity, context: Context, note: Callable[[WorkerId], object]
) -> AsyncIterator[Any]:
    """Pass messages on that the caller sends as itself, or as nobody, and note as which worker."""
    async for message in requests:
        if sender := sender_of(message):
            if not caller.owns(sender.name):
                other = printable(sender.name[:80])
                reason = f"{caller.name} may act as {caller.name} or {caller.name}/…, not as {other!r}"
                await abort(context, grpc.StatusCode.PERMISSION_DENIED, reason)
            note(sender.id)
        yield message
