"""The baselines of a transfer: gRPC streams and messages of raw bytes, and plain TCP, in a process of its own."""

import asyncio
import multiprocessing as mp
import os
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from multiprocessing.connection import Connection as Pipe
from types import TracebackType
from typing import Any, Self

import grpc

from lotteryfl.allocator import keep_freed_memory

CHUNK = 1 << 20
_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


class RawServer:
    """Sends and takes `size` bytes; each method is one transfer, in chunks of 1 MiB but for `message`."""

    def __init__(self, size: int, *, keep_memory: bool) -> None:
        self._size = size
        self._buffer = bytearray(CHUNK)
        spawn = mp.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(size, keep_memory, theirs))

    def __enter__(self) -> Self:
        self._process.start()
        grpc_port, tcp_port = self._pipe.recv()
        self.address = f"127.0.0.1:{grpc_port}"
        self._channel: Any = grpc.insecure_channel(self.address, options=_OPTIONS)
        self._socket = socket.create_connection(("127.0.0.1", tcp_port))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()
        self._socket.close()
        self._pipe.send("stop")
        self._process.join()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid or 0

    def grpc_down(self) -> None:
        """Receive a gRPC stream."""
        for _ in self._channel.unary_stream("/raw/Down")(b""):
            pass

    def grpc_up(self) -> None:
        """Send a gRPC stream."""
        self._channel.stream_unary("/raw/Up")(_chunks(self._size))

    def grpc_up_to_disk(self) -> None:
        """Send a gRPC stream into a file; when this returns, it is on disk."""
        self._channel.stream_unary("/raw/Store")(_chunks(self._size))

    def message_down(self) -> None:
        """Receive everything in one gRPC message."""
        self._channel.unary_unary("/raw/Message")(b"")

    def tcp_down(self) -> None:
        """Receive over TCP."""
        self._socket.sendall(b"d")
        _receive(self._socket, self._size, self._buffer)

    def tcp_up(self) -> None:
        """Send over TCP."""
        self._socket.sendall(b"u")
        for chunk in _chunks(self._size):
            self._socket.sendall(chunk)
        self._socket.recv(1)


def _chunks(size: int) -> Iterator[bytes]:
    chunk = bytes(CHUNK)
    for start in range(0, size, CHUNK):
        yield chunk if size - start >= CHUNK else chunk[: size - start]


def _receive(connection: socket.socket, size: int, buffer: bytearray) -> None:
    while size:
        size -= connection.recv_into(buffer, min(size, len(buffer)))


def _serve(size: int, keep_memory: bool, parent: Pipe) -> None:
    if keep_memory:
        keep_freed_memory()
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_serve_tcp, args=(listener, size), daemon=True).start()
    asyncio.run(_serve_grpc(size, parent, listener.getsockname()[1]))


def _serve_tcp(listener: socket.socket, size: int) -> None:
    connection, _ = listener.accept()
    buffer = bytearray(CHUNK)
    while direction := connection.recv(1):
        if direction == b"d":
            for chunk in _chunks(size):
                connection.sendall(chunk)
        else:
            _receive(connection, size, buffer)
            connection.sendall(b".")


async def _serve_grpc(size: int, parent: Pipe, tcp_port: int) -> None:
    async def down(_request: bytes, _context: object) -> AsyncIterator[bytes]:
        for chunk in _chunks(size):
            yield chunk

    async def up(parts: AsyncIterator[bytes], _context: object) -> bytes:
        async for _ in parts:
            pass
        return b""

    async def store(parts: AsyncIterator[bytes], _context: object) -> bytes:
        with tempfile.TemporaryFile() as file:
            async for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        return b""

    async def echo(request: bytes, _context: object) -> bytes:
        return request

    async def message(_request: bytes, _context: object) -> bytes:
        return bytes(size)

    server = grpc.aio.server(options=_OPTIONS)
    handlers: dict[str, Any] = {
        "Down": grpc.unary_stream_rpc_method_handler(down),
        "Up": grpc.stream_unary_rpc_method_handler(up),
        "Store": grpc.stream_unary_rpc_method_handler(store),
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Message": grpc.unary_unary_rpc_method_handler(message),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("raw", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    parent.send((port, tcp_port))
    await asyncio.to_thread(parent.recv)
    await server.stop(None)
