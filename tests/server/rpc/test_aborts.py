"""A refused call leaves nothing in memory, whatever it held."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from lotteryfl.server.rpc.aborts import ForgottenAborts

CALLS = 20


class Held:
    """What a call holds; counts those that live."""

    alive = 0

    def __init__(self) -> None:
        Held.alive += 1

    def __del__(self) -> None:
        Held.alive -= 1


async def refuse(context: Any) -> None:
    try:
        raise ValueError("its frame too holds what its caller holds")
    except ValueError as error:
        await context.abort(grpc.StatusCode.NOT_FOUND, str(error))


async def unary(request: bytes, context: Any) -> bytes:
    held = Held()
    await refuse(context)
    return bytes(held.alive)


async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
    held = Held()
    yield b"first"
    await refuse(context)
    yield bytes(held.alive)


async def written(request: bytes, context: Any) -> None:
    """A stream as the health service has it."""
    held = Held()
    await context.write(b"first")
    await refuse(context)
    assert held


HANDLERS: dict[str, "grpc.RpcMethodHandler[bytes, bytes]"] = {
    "unary": grpc.unary_unary_rpc_method_handler(unary),
    "stream": grpc.unary_stream_rpc_method_handler(stream),
    "written": grpc.unary_stream_rpc_method_handler(written),
}


async def alive_after_calls(method: str) -> int:
    server = grpc.aio.server(interceptors=(ForgottenAborts(),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("S", HANDLERS),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for _ in range(CALLS):
            begin: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"/S/{method}")
            call = begin(b"")
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                async for _ in call:
                    pass
            assert failure.value.code() is grpc.StatusCode.NOT_FOUND
            assert failure.value.details() == "its frame too holds what its caller holds"
    await server.stop(None)
    return Held.alive


@pytest.mark.parametrize("method", HANDLERS)
def test_nothing_of_a_refused_call_is_kept(method: str, caplog: pytest.LogCaptureFixture) -> None:
    assert asyncio.run(alive_after_calls(method)) == 0
    assert caplog.records == []
