"""What holds for every request and answer: who asks, by which method, and the headers that keep a page to itself."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lotteryfl.dashboard.access import Access
from lotteryfl.dashboard.answers import refusal

PEER = "lotteryfl.peer"
"""Key of a request's scope: the `Peer` whom its connection shows by a certificate; None: nobody."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_FOR_ANYONE = frozenset({"/healthz", "/enter"})
_METHODS = ("GET", "HEAD")


class Guard:
    """Lets through who may look and only looks."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        """Set what is guarded."""
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or have it answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refused = self._refused(scope)
        await (refused or self._app)(scope, receive, sending)

    def _refused(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._access.is_meant(hosts[0]):
            return refusal(421, "this page is at a loopback address: open it as localhost or 127.0.0.1")
        if scope["method"] not in _METHODS:
            return refusal(405, "this page is for looking alone: expected GET", {"Allow": ", ".join(_METHODS)})
        if scope["path"] in _FOR_ANYONE:
            return None
        if not (why := self._access.may_look(headers, scope.get(PEER))):
            return None
        asks = {"WWW-Authenticate": 'Basic realm="lotteryfl: the password is an observer\'s token", charset="UTF-8"'}
        return refusal(401, why, asks if self._access.takes_tokens else None)
