"""Limits over real sockets: who wants more than its share is told so, others work on, and shares come back."""

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lotteryfl.client.connection import Connection
from lotteryfl.common.security.channel import CLIENT_OPTIONS, PROTOCOL_VERSION, open_channel
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc
from lotteryfl.server.rpc.limiting import Limiting
from lotteryfl.server.rpc.limits import Limits
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.credentials import Credentials
from tests.support.handworker import HandWorker
from tests.support.looking import fails, status, stored
from tests.support.runs import Coordinate, Write
from tests.support.waiting import DEADLINE, until

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
TOO_SLOW = grpc.StatusCode.DEADLINE_EXCEEDED
SERVICE = pb.DESCRIPTOR.services_by_name["Coordinator"].full_name
ACCEPTED = pb.SubmitReply.ACCEPTED


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials(tmp_path_factory.mktemp("credentials"))


@pytest.fixture
def limited(coordinate: Coordinate, write: Write, credentials: Credentials) -> Any:
    """Serve a run to callers with certificates, of whom `stub` is bob: `limited(calls_per_caller=3)`."""

    def limited_(**limits: Any) -> CoordinatorThread:
        security = credentials.of("bob")
        return coordinate(write(), endpoint=credentials.mutual, security=security, limits=Limits(**limits))

    return limited_


@contextmanager
def alice(server: CoordinatorThread, credentials: Credentials) -> Iterator[grpc.Channel]:
    with open_channel(server.address, credentials.of("alice")) as channel:
        yield channel


def registering(name: str) -> pb.RegisterRequest:
    return pb.RegisterRequest(protocol=PROTOCOL_VERSION, name=name, incarnation="1" * 32, device="cpu")


def watching(channel: grpc.Channel, number: int) -> list[Any]:
    """Open streams, and see that each has begun."""
    calls = [pb_grpc.CoordinatorStub(channel).WatchRun(pb.WatchRunRequest(), timeout=DEADLINE) for _ in range(number)]
    for call in calls:
        next(call)
    return calls


def works_on(server: CoordinatorThread) -> bool:
    worker = HandWorker(server, "bob")
    return worker.submit(worker.work().messages()).verdict == ACCEPTED


# -- shares


def test_a_caller_has_so_many_calls_at_once_and_another_works_beside_it(limited: Any, credentials: Credentials) -> None:
    server = limited(calls_per_caller=3)
    with alice(server, credentials) as channel:
        stub = pb_grpc.CoordinatorStub(channel)
        calls = watching(channel, 3)
        error = fails(lambda: stub.GetRun(pb.GetRunRequest(), timeout=DEADLINE))
        assert error.code() is EXHAUSTED
        assert error.details() == "alice has 3 calls under way, and may not have more at once"
        assert works_on(server)
        calls[0].cancel()
        until(lambda: can(lambda: stub.GetRun(pb.GetRunRequest(), timeout=DEADLINE)))
    with alice(server, credentials) as channel:
        until(lambda: can(lambda: watching(channel, 3)))


def can(call: Any) -> bool:
    """Tell whether a call is let in."""
    try:
        call()
    except grpc.RpcError as error:
        if error.code() is EXHAUSTED:
            return False
        raise
    return True


def test_calls_that_wait_for_news_have_a_share_of_their_own(limited: Any, credentials: Credentials) -> None:
    """Those of the health service too, which nobody is asked for who calls: its callers are addresses."""
    server = limited(watches_per_caller=1)
    check = health_pb2.HealthCheckRequest()
    with alice(server, credentials) as channel:
        (watch,) = watching(channel, 1)
        error = fails(lambda: watching(channel, 1))
        assert (error.code(), error.details()) == (
            EXHAUSTED,
            "alice has 1 calls that wait for news under way, and may not have more at once",
        )
        probe: Any = health_pb2_grpc.HealthStub(channel)
        first = probe.Watch(check, timeout=DEADLINE)
        assert next(first).status == 1
        error = fails(lambda: next(probe.Watch(check, timeout=DEADLINE)))
        assert error.code() is EXHAUSTED
        assert (error.details() or "").startswith("ipv4:127.0.0.1 has 1 calls that wait for news")
        assert probe.Check(check, timeout=DEADLINE).status == 1
        assert pb_grpc.CoordinatorStub(channel).GetRun(pb.GetRunRequest(), timeout=DEADLINE).rounds == 3
        assert works_on(server)
        assert watch.is_active()


def test_all_callers_together_have_so_many_calls(limited: Any, credentials: Credentials) -> None:
    server = limited(calls=2)
    with alice(server, credentials) as channel:
        calls = watching(channel, 2)
        assert not can(lambda: status(server))
        calls[0].cancel()
        until(lambda: can(lambda: status(server)))


def test_a_caller_registers_so_often_in_a_minute_and_comes_again(
    limited: Any, credentials: Credentials, caplog: pytest.LogCaptureFixture
) -> None:
    server = limited(registrations_per_minute=30)
    with alice(server, credentials) as channel:
        stub = pb_grpc.CoordinatorStub(channel)
        until(lambda: not can(lambda: stub.Register(registering("alice"), timeout=DEADLINE)))
        assert works_on(server), "others may register"
        caplog.set_level(logging.WARNING)
        until(lambda: not can(lambda: stub.Register(registering("alice"), timeout=DEADLINE)))
        with Connection(server.address, 60, credentials.of("alice")) as connection:
            assert connection.register(registering("alice/1")).worker_id.startswith("alice/1:")
    reason = "alice has come to 30 registrations in a minute: try again later; trying again for 60 s"
    assert caplog.messages == [f"coordinator {server.address}: {reason}"]


def test_a_worker_has_so_many_uploads_under_way(coordinate: Coordinate, write: Write) -> None:
    server = coordinate(write(), limits=Limits(uploads_per_worker=2))
    worker, other = HandWorker(server), HandWorker(server, "other")
    done = worker.work()
    never = threading.Event()

    def stuck() -> Iterator[pb.ResultPart]:
        yield from done.messages()[:2]
        never.wait(DEADLINE)

    calls = [server.stub.SubmitResult.future(stuck()) for _ in range(2)]
    until(lambda: len(stored(server)) == 2)
    error = fails(lambda: worker.submit(done.messages()))
    assert error.code() is EXHAUSTED
    assert error.details() == f"{worker.id} has 2 uploads under way, and may not have more at once"
    assert other.submit(other.work().messages()).verdict == ACCEPTED
    for call in calls:
        call.cancel()
    never.set()
    until(lambda: len(stored(server)) == 2), "of what was cut, one is kept, beside the other's result"
    assert worker.submit(done.messages()).verdict == ACCEPTED


# -- sizes


@pytest.mark.parametrize("method", [method.name for method in pb.DESCRIPTOR.services_by_name["Coordinator"].methods])
def test_the_first_message_of_a_call_has_so_many_bytes(server: CoordinatorThread, method: str) -> None:
    """It is not parsed: these bytes are no message at all."""
    call: grpc.StreamStreamMultiCallable[bytes, bytes] = server.channel.stream_stream(f"/{SERVICE}/{method}")
    error = fails(lambda: next(call(iter([b"\xff" * ((1 << 20) + 1)]), timeout=DEADLINE)))
    assert (error.code(), error.details()) == (EXHAUSTED, "a message has 1048577 bytes: at most 1048576 are taken")


def test_bytes_that_are_no_message_are_refused(server: CoordinatorThread) -> None:
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = server.channel.unary_unary(f"/{SERVICE}/Register")
    error = fails(lambda: call(b"\xff" * 100, timeout=DEADLINE))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.details() or "").startswith("a message of the call is none: ")


def test_texts_and_lists_have_bounds(server: CoordinatorThread, worker: HandWorker) -> None:
    beat = pb.HeartbeatRequest(worker_id=worker.id, progress=[pb.AssignmentProgress(assignment_id="x")] * 5)
    long_beat = pb.HeartbeatRequest(progress=[pb.AssignmentProgress(assignment_id="x" * 1025)])
    fetch = pb.FetchAssignmentRequest(worker_id=worker.id, held=["x"] * 5)
    held = registering("w")
    held.clients.clients.extend([0] * 5)
    device = registering("w")
    device.device = "x" * 1025
    for call, reason in (
        (lambda: server.stub.Heartbeat(beat, timeout=DEADLINE), "progress has 5 entries: the experiment has 4 clients"),
        (lambda: server.stub.Register(held, timeout=DEADLINE), "clients has 5 entries: the experiment has 4 clients"),
        (
            lambda: next(server.stub.FetchAssignment(fetch, timeout=DEADLINE)),
            "held has 5 entries: the experiment has 4 clients",
        ),
        (
            lambda: server.stub.Register(device, timeout=DEADLINE),
            "RegisterRequest.device has 1025 characters: at most 1024 are taken",
        ),
        (
            lambda: server.stub.Heartbeat(long_beat, timeout=DEADLINE),
            "AssignmentProgress.assignment_id has 1025 characters: at most 1024 are taken",
        ),
    ):
        error = fails(call)
        assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


# -- time


@pytest.mark.parametrize("method", ["GetRun", "Heartbeat", "WatchRun", "SubmitResult"])
def test_a_call_whose_message_never_comes_is_ended(coordinate: Coordinate, write: Write, method: str) -> None:
    server = coordinate(write(), limits=Limits(request_seconds=0.2))
    ended = threading.Event()

    def never() -> Iterator[bytes]:
        ended.wait(DEADLINE)
        yield b""

    call: grpc.StreamStreamMultiCallable[bytes, bytes] = server.channel.stream_stream(f"/{SERVICE}/{method}")
    error = fails(lambda: next(call(never(), timeout=DEADLINE)))
    ended.set()
    assert (error.code(), error.details()) == (TOO_SLOW, "the call's messages come too slowly")


def test_an_upload_that_trickles_is_cut_and_goes_on_where_it_was(coordinate: Coordinate, write: Write) -> None:
    """Its messages are never far apart; there is just too little in them."""
    server = coordinate(write(), limits=Limits(idle_seconds=2))
    worker = HandWorker(server)
    done = worker.work()
    header, *chunks = done.messages()
    content = b"".join(part.chunk for part in chunks)
    ended = threading.Event()

    def trickle() -> Iterator[pb.ResultPart]:
        yield header
        for byte in content:
            yield pb.ResultPart(chunk=bytes((byte,)))
            if ended.wait(0.05):
                return

    error = fails(lambda: worker.submit(trickle()))
    ended.set()
    assert (error.code(), error.details()) == (TOO_SLOW, "the call's messages come too slowly")
    find = pb.FindUploadRequest(worker_id=worker.id, assignment_id=done.result.assignment_id)
    until(lambda: server.stub.FindUpload(find, timeout=DEADLINE).received > 0)
    received = server.stub.FindUpload(find, timeout=DEADLINE).received
    assert worker.submit(done.messages(offset=received)).verdict == ACCEPTED


def test_an_answer_that_nobody_reads_is_given_up() -> None:
    """What its handler held is free, also where the caller never comes back; one that does is told why."""
    given_up = threading.Event()

    async def flood(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1 << 20)
        finally:
            given_up.set()

    class Flood(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            return grpc.unary_stream_rpc_method_handler(flood, pb.GetRunRequest.FromString)

    def call(port: int) -> grpc.RpcError:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=CLIENT_OPTIONS) as channel:
            begin: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/any/Flood")
            stream = begin(b"", timeout=DEADLINE)
            next(stream)
            assert given_up.wait(DEADLINE)
            return fails(lambda: list(stream))

    async def serve() -> grpc.RpcError:
        server = grpc.aio.server(interceptors=(Limiting(Limits(idle_seconds=0.3)),))
        server.add_generic_rpc_handlers((Flood(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            return await asyncio.to_thread(call, port)
        finally:
            await server.stop(None)

    error = asyncio.run(serve())
    assert (error.code(), error.details()) == (TOO_SLOW, "nothing of the answer was read for 0.3 s")


# -- connections: unknown names of options would be ignored without a word


def connect(server: CoordinatorThread) -> socket.socket:
    host, _, port = server.address.rpartition(":")
    connection = socket.create_connection((host, int(port)))
    connection.settimeout(DEADLINE)
    return connection


def test_there_are_so_many_connections(coordinate: Coordinate, write: Write) -> None:
    server = coordinate(write(), limits=Limits(connections=2))
    assert status(server).rounds == 3
    with connect(server) as second, connect(server) as third:
        assert second.recv(9), "the server's settings"
        assert third.recv(9) == b"", "closed"
        assert status(server).rounds == 3

    def is_let_in() -> bool:
        with connect(server) as connection:
            return connection.recv(9) != b""

    until(is_let_in)


def test_a_handshake_that_does_not_end_is_cut(coordinate: Coordinate, write: Write, credentials: Credentials) -> None:
    for name, endpoint in (("plain", None), ("tls", credentials.mutual)):
        server = coordinate(write(), name, endpoint=endpoint, limits=Limits(handshake_seconds=0.3))
        with connect(server) as connection:
            while connection.recv(1000):
                pass


def test_a_connection_has_so_many_calls(coordinate: Coordinate, write: Write) -> None:
    """As the server says in its settings (RFC 9113, section 6.5.2)."""
    server = coordinate(write(), limits=Limits(calls_per_connection=77))
    with connect(server) as connection:
        frame = b""
        while len(frame) < 9 or len(frame) < 9 + int.from_bytes(frame[:3]):
            frame += connection.recv(1000)
    settings = frame[9 : 9 + int.from_bytes(frame[:3])]
    pairs = [settings[start : start + 6] for start in range(0, len(settings), 6)]
    assert {int.from_bytes(pair[:2]): int.from_bytes(pair[2:]) for pair in pairs}[3] == 77


def test_a_connection_without_a_call_is_closed_and_made_again(coordinate: Coordinate, write: Write) -> None:
    server = coordinate(write(), limits=Limits(unused_seconds=1))
    lost = threading.Event()
    seen = []

    def changed(state: grpc.ChannelConnectivity) -> None:
        seen.append(state)
        if state is not grpc.ChannelConnectivity.READY and grpc.ChannelConnectivity.READY in seen:
            lost.set()

    server.channel.subscribe(changed)
    assert status(server).rounds == 3
    assert lost.wait(DEADLINE)
    assert status(server).rounds == 3
