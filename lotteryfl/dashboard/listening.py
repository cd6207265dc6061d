"""The page's process: listens, tells where, and ends when it is told to or has nobody to live for."""

import asyncio
import contextlib
import ctypes
import errno
import gc
import logging
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.identity import Identity, IdentityError
from lotteryfl.dashboard.access import Access, PageEndpoint, Peer
from lotteryfl.dashboard.app import Page
from lotteryfl.dashboard.catalogue import Catalogue
from lotteryfl.dashboard.guard import PEER
from lotteryfl.dashboard.live import Live
from lotteryfl.feed import read_news

_TIDY_SECONDS = 5.0
_STOP_SECONDS = 2
_LAST_LOOK_SECONDS = 2.5
"""For which the page is still there when its coordinator has gone: who looks sees the end."""

_PATIENCE_SECONDS, _AGAIN_SECONDS = 5.0, 0.2
_READ_FIRST = 4
_MOST_CONNECTIONS = 1024
_MOST_HEADER = 16 << 10


async def show_page(
    paths: Sequence[Path],
    endpoint: PageEndpoint,
    live: Live,
    said: Callable[[str], None],
    opened: Callable[[str], object] | None = None,
    following: Callable[[], Coroutine[object, object, None]] | None = None,
) -> None:
    """Show runs until this is cancelled, or what is followed has ended.

    Args:
        paths: run directories, and folders of them.
        endpoint: where, and to whom.
        live: where the news of the first run are.
        said: is told where the page is.
        opened: is called with its address, to open it.
        following: what it returns follows a coordinator, until that has gone.

    Raises:
        LotteryFLError: there is no run, or the address cannot be listened at.
    """
    closing = asyncio.Event()
    catalogue, access = Catalogue(paths, live), Access(endpoint)
    server = _Server(_config(Page(catalogue, access, closing).app(), endpoint))
    async with _listener(endpoint, _PATIENCE_SECONDS if following is not None else 0.0) as listener:
        address = f"{'https' if endpoint.tls.pair() else 'http'}://{_host(endpoint)}:{listener.getsockname()[1]}"
        tasks = [asyncio.create_task(_tidy(catalogue))]
        serving = asyncio.create_task(server.serve([listener]))
        try:
            await server.ready.wait()
            await _begin(catalogue)
            said(f"page: {address}{access.link()}")
            if opened is not None:
                await asyncio.to_thread(opened, address + access.link())
            ends = [serving] if following is None else [serving, asyncio.create_task(following())]
            tasks += ends[1:]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for ended in (each for each in ends if each.done()):
                ended.result()  # or why it has failed
            if live.has_ended:
                await asyncio.sleep(_LAST_LOOK_SECONDS)
        finally:
            closing.set()
            for task in tasks:
                task.cancel()
            server.should_exit = True
            await asyncio.gather(serving, *tasks, return_exceptions=True)


async def follow_pipe(live: Live) -> None:
    """Take the news that a coordinator's process writes into this one's stdin, until it has gone."""
    pipe = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(pipe), sys.stdin)
    async for news in read_news(pipe):
        live.tell(news)


class _Server(Server):
    """Is stopped by whoever has started it, not by signals of its own."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the program."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self.ready.set()


class _Protocol(H11Protocol):
    """Says of each request by which certificate its connection shows who is there."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a connection."""
        super().connection_made(transport)
        peer, app = _peer(transport.get_extra_info("ssl_object")), self.app

        async def known(scope: Any, receive: Any, send: Any) -> None:
            scope[PEER] = peer
            await app(scope, receive, send)

        self.app = known


def _peer(connection: ssl.SSLObject | None) -> Peer | None:
    certificate: Any = connection.getpeercert() if connection else None
    whole = connection.getpeercert(binary_form=True) if connection else None
    if not (certificate and whole):
        return None
    uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    names = [value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"]
    try:
        return Peer(Identity.of_certificate(uris, names), ssl.DER_cert_to_PEM_cert(whole).encode())
    except IdentityError:
        return None


def _config(app: Any, endpoint: PageEndpoint) -> Config:
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # strangers' requests are no news of ours
    tls = endpoint.tls
    return Config(
        app,
        http=_Protocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_STOP_SECONDS,
        h11_max_incomplete_event_size=_MOST_HEADER,
        ssl_certfile=tls.cert,
        ssl_keyfile=tls.key,
        ssl_ca_certs=None if tls.ca is None else str(tls.ca),
        ssl_cert_reqs=ssl.CERT_NONE if tls.ca is None else ssl.CERT_OPTIONAL,
    )


@contextlib.asynccontextmanager
async def _listener(endpoint: PageEndpoint, patience: float) -> AsyncIterator[socket.socket]:
    """Listen; where another process still does, that may be the page of a coordinator that was killed."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    deadline = time.monotonic() + patience
    try:
        while True:
            try:
                listener = socket.create_server((endpoint.host, endpoint.port), family=family, backlog=128)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_AGAIN_SECONDS)
    except OSError as error:
        raise LotteryFLError(f"{endpoint.address}: the page cannot listen there: {error.strerror or error}") from error
    with listener:
        yield listener


def _host(endpoint: PageEndpoint) -> str:
    """Return the host as it stands in an address that this machine can open."""
    if endpoint.host in ("0.0.0.0", "::"):  # noqa: S104 - it is asked for, not listened at
        return socket.gethostname()
    return f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host


async def _begin(catalogue: Catalogue) -> None:
    """Read the first runs before anybody asks: who has started this is about to."""
    for run in islice(catalogue, _READ_FIRST):
        await run.refresh()


async def _tidy(catalogue: Catalogue) -> None:
    """Give memory back that was for who looked, and has left."""
    while True:
        await asyncio.sleep(_TIDY_SECONDS)
        if catalogue.forget_idle():
            gc.collect()
            with contextlib.suppress(AttributeError, OSError, TypeError):  # glibc's alone
                ctypes.CDLL(None).malloc_trim(0)
