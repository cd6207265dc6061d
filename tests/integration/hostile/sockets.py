"""What comes over a coordinator's port without being a call, and how the port answers: by hanging up, or not at all."""

import contextlib
import random
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack

from tests.support.waiting import DEADLINE

Attack = Callable[[str], None]
RANDOM = random.Random(7)  # noqa: S311 - the same noise every time
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MANY = 1000


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=DEADLINE)


def hung_up(connection: socket.socket) -> bool:
    """Tell whether the other side ends the connection, whatever it says before."""
    try:
        while connection.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def say(address: str, words: bytes) -> None:
    with connect(address) as connection:
        with contextlib.suppress(OSError):  # it may have heard enough already
            connection.sendall(words)
            connection.shutdown(socket.SHUT_WR)
        assert hung_up(connection)


def client_hello() -> bytes:
    """Return what a client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError


def frame(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    """Return an HTTP/2 frame (RFC 9113, section 4.1), its length as it is or as it is not."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


_HELLO = client_hello()

GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "random bytes": RANDOM.randbytes(1 << 16),
    "zeros": bytes(1 << 16),
    "an HTTP/1 request": b"GET /run.db HTTP/1.1\r\nHost: coordinator\r\n\r\n",
    "half a TLS ClientHello": _HELLO[: len(_HELLO) // 2],
    "a whole ClientHello and then random bytes": _HELLO + RANDOM.randbytes(10_000),
    "HTTP/2 and then random bytes": PREFACE + RANDOM.randbytes(1 << 16),
    "a frame longer than allowed": PREFACE + frame(4, 0, 0, b"") + frame(0, 0, 1, bytes(100), length=2**24 - 1),
    "headers that are none": PREFACE + frame(4, 0, 0, b"") + frame(1, 4, 1, b"\xff" * 1000),
    "settings without end": PREFACE + frame(4, 0, 0, b"") * 10_000,
    "streams opened and reset": PREFACE
    + frame(4, 0, 0, b"")
    + b"".join(frame(1, 4, n, b"\x83") + frame(3, 0, n, bytes(4)) for n in range(1, 20_000, 2)),
}


@contextlib.contextmanager
def many_connections(address: str) -> Iterator[list[socket.socket]]:
    """Hold a thousand connections open, each after the first bytes of a handshake."""
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(address)) for _ in range(MANY)]
        for connection in connections:
            connection.sendall(_HELLO[:50])
        yield connections


def some_and_wait(messages: Iterable[bytes], gate: threading.Event) -> Iterator[bytes]:
    """Yield messages, and stand still until the gate is open."""
    yield from messages
    gate.wait(DEADLINE)
