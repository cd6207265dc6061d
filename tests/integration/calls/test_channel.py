"""The channel options have an effect, with shorter times: unknown names would be ignored without a word."""

import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from lotteryfl.common.security.channel import CLIENT_OPTIONS, SERVER_OPTIONS, open_channel
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc
from tests.support.processes import free_port
from tests.support.runs import Coordinate, Start, Write
from tests.support.waiting import DEADLINE

Options = Sequence[tuple[str, int]]

PING_EVERY_SECOND = {
    "grpc.keepalive_time_ms": 1_000,
    "grpc.keepalive_timeout_ms": 5_000,
    "grpc.http2.ping_timeout_ms": 5_000,
}


def shortened(options: Options, changes: Mapping[str, int]) -> Options:
    """Return the options with other values, and none that is not there."""
    return [(name, changes.get(name, value)) for name, value in options]


class Connectivity:
    """Tells when a channel that was ready is not any more."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.ready = threading.Event()
        self.lost = threading.Event()
        channel.subscribe(self._changed, try_to_connect=True)

    def _changed(self, state: grpc.ChannelConnectivity) -> None:
        if state is grpc.ChannelConnectivity.READY:
            self.ready.set()
        elif self.ready.is_set():
            self.lost.set()


@pytest.mark.slow
def test_a_frozen_coordinator_is_noticed(tmp_path: Path, start: Start, write: Write) -> None:
    """In a stream and without any call; its kernel still takes what we send. By default it takes over a minute."""
    serve = start("serve", write(), "--listen", "127.0.0.1:0", "--run-dir", "run")
    address = serve.said(r"listening at (\S+)")[1]
    options = [*shortened(CLIENT_OPTIONS, PING_EVERY_SECOND), ("grpc.use_local_subchannel_pool", 1)]
    with (
        grpc.insecure_channel(address, options=options) as channel,
        grpc.insecure_channel(address, options=options) as idle,
    ):
        watch = pb_grpc.CoordinatorStub(channel).WatchRun(pb.WatchRunRequest(), timeout=DEADLINE)
        next(watch)
        idle_state = Connectivity(idle)
        assert idle_state.ready.wait(DEADLINE)
        assert not idle_state.lost.wait(4), "pings without data must go on after the first two"
        serve.send(signal.SIGSTOP)
        frozen = time.monotonic()
        with pytest.raises(grpc.RpcError) as failure:
            next(watch)
        assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
        assert idle_state.lost.wait(DEADLINE)
        assert time.monotonic() - frozen < 60


def test_an_idle_connection_that_pings_is_kept() -> None:
    """By the rules that a server has by default, the third ping, after three seconds, would be one too many."""
    client_options = shortened(CLIENT_OPTIONS, PING_EVERY_SECOND)
    server_options = shortened(SERVER_OPTIONS, {"grpc.http2.min_ping_interval_without_data_ms": 500})

    def stay_idle(port: int) -> bool:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=client_options) as channel:
            state = Connectivity(channel)
            request = health_pb2.HealthCheckRequest()
            health_pb2_grpc.HealthStub(channel).Check(request, timeout=DEADLINE)  # type: ignore[attr-defined]
            return state.ready.wait(DEADLINE) and not state.lost.wait(5)

    async def serve() -> bool:
        server = grpc.aio.server(options=server_options)
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            return await asyncio.to_thread(stay_idle, port)
        finally:
            await server.stop(None)

    assert asyncio.run(serve())


@pytest.mark.parametrize("stage", ["connect", "handshake"])
def test_a_coordinator_that_is_slow_to_answer_is_waited_for(stage: str, coordinate: Coordinate, write: Write) -> None:
    """A second, as over a satellite or on a machine with too much to do; an attempt at a connection takes that long."""
    host, _, port = coordinate(write()).address.rpartition(":")
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        if stage == "connect":  # the kernel's queue is full: it answers nobody else
            waiting = [stack.enter_context(socket.socket()) for _ in range(3)]
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(address)
        channel = stack.enter_context(open_channel(f"127.0.0.1:{address[1]}", ChannelSecurity()))
        answer = pb_grpc.CoordinatorStub(channel).GetRun.future(pb.GetRunRequest(), timeout=DEADLINE)
        with contextlib.suppress(grpc.FutureTimeoutError):
            raise AssertionError(answer.exception(timeout=1))
        if stage == "connect":
            for each in waiting:
                each.close()
        near = None
        while near is None or not near.recv(1, socket.MSG_PEEK):
            near = stack.enter_context(listener.accept()[0])
        far = stack.enter_context(socket.create_connection((host, int(port))))
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=_pour, args=(source, sink), daemon=True).start()
        assert answer.result().state == pb.RunStatus.RUNNING


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            sink.sendall(piece)


def test_a_proxy_of_the_environment_is_not_asked(
    coordinate: Coordinate, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grpc_proxy", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    server = coordinate(write())
    assert server.stub.GetRun(pb.GetRunRequest(), timeout=DEADLINE).state == pb.RunStatus.RUNNING


def test_the_server_allows_the_clients_pings() -> None:
    allowed = dict(SERVER_OPTIONS)["grpc.http2.min_ping_interval_without_data_ms"]
    assert allowed < dict(CLIENT_OPTIONS)["grpc.keepalive_time_ms"]
