"""Answers at `--metrics`, in plaintext, by a thread of its own that takes one caller at a time."""

import io
import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.address import AddressError, cannot_listen, check_address, check_free

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

_log = logging.getLogger("lotteryfl.metrics")

PATH = "/metrics"
_SILENCE_SECONDS = 5.0
"""For which a caller may say nothing, or not read."""


class _Handler(WSGIRequestHandler):
    timeout = _SILENCE_SECONDS

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        _log.debug(format, *args)

    def get_stderr(self) -> io.StringIO:  # what goes wrong with a caller is nobody's news
        return io.StringIO()


class _Server(WSGIServer):
    """One caller after the other: who is slow keeps others waiting here, and nobody else."""

    def __init__(self, family: socket.AddressFamily, host: str, port: int) -> None:
        self.address_family = family
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind, without asking a name server what this host is called."""
        socketserver.TCPServer.server_bind(self)
        host, port, *_ = self.server_address
        self.server_name, self.server_port = str(host), int(port)
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the library's signature
        _log.debug("a caller is gone", exc_info=True)


def check_exposed(address: str, workers: int = 0) -> None:
    """Check that what is asked for there can be answered.

    Args:
        address: HOST:PORT.
        workers: how many more processes are to answer, at the ports after it.

    Raises:
        AddressError: it is no address, there are not so many ports after it, or one is taken.
        LotteryFLError: prometheus-client is not installed.
    """
    check_address(address, listens=True)
    if "/" in address or address.startswith("unix"):
        raise AddressError(f"--metrics {address}: expected HOST:PORT")
    check_address(beside(address, workers), listens=True)
    try:
        import prometheus_client  # noqa: F401 - an extra
    except ImportError as error:
        raise LotteryFLError("--metrics needs prometheus-client: pip install 'lotteryfl[metrics]'") from error
    for number in range(workers + 1):
        check_free(beside(address, number), "--metrics")


def beside(address: str, number: int) -> str:
    """Return where the process of a number answers, of those of one command: so many ports further on.

    With port 0 everyone takes a free one.
    """
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + number}" if int(port) else address


@contextmanager
def exposed(address: str, collector: "Collector") -> Iterator[str]:
    """Answer while the block runs; yields the URL.

    Args:
        address: HOST:PORT; with port 0 a free one is taken.
        collector: gives what there is to say of the run; what the process takes is said too.

    Raises:
        LotteryFLError: the address cannot be listened at.
    """
    from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app

    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    ProcessCollector(registry=registry)
    server = _listening(address)
    server.set_app(_answering(make_wsgi_app(registry)))
    thread = threading.Thread(target=_serve, args=(server,), name="metrics", daemon=True)
    thread.start()
    host, _, _ = address.rpartition(":")
    try:
        yield f"http://{host}:{server.server_port}{PATH}"
    finally:
        threading.Thread(target=server.shutdown, daemon=True).start()  # nobody waits for who is being answered


def _serve(server: WSGIServer) -> None:
    with server:
        server.serve_forever()


def _listening(address: str) -> WSGIServer:
    host, _, port = address.rpartition(":")
    failure: OSError | None = None
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        found, failure = [], error
    for family, _, _, _, where in sorted(found, key=lambda each: each[0] != socket.AF_INET):
        try:
            return _Server(family, str(where[0]), int(where[1]))
        except OSError as error:
            failure = error
    raise cannot_listen(address, "--metrics") from failure


def _answering(app: WSGIApplication) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    """Return what answers at one path alone, and says so where the numbers are not to be had."""

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != PATH:
            start("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"expected {PATH}\n".encode()]
        try:
            return app(environ, start)
        except Exception as error:
            _log.debug("no metrics: %s", error, exc_info=True)
            start("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"the run has no time to answer, or has ended\n"]

    return answer
