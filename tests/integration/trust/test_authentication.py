"""Over real sockets: who may make which call, as whom, and that it is found out before a body is read."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from lotteryfl.common.security.channel import PROTOCOL_VERSION, open_channel
from lotteryfl.common.security.identity import Role
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc
from lotteryfl.server.security.tokens import revoke_token
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.credentials import Credentials
from tests.support.handworker import INCARNATION, HandWorker
from tests.support.looking import fails, fetch, status
from tests.support.processes import free_port
from tests.support.runs import Coordinate, Write
from tests.support.waiting import DEADLINE

SERVICE = pb.DESCRIPTOR.services_by_name["Coordinator"]
OBSERVING = {"GetRun", "WatchRun", "GetFleet", "GetClients", "GetRounds", "GetEvents", "FetchModel"}
DENIED = grpc.StatusCode.PERMISSION_DENIED
UNKNOWN = grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials(tmp_path_factory.mktemp("credentials"))


@pytest.fixture
def mutual(credentials: Credentials, coordinate: Coordinate, write: Write) -> CoordinatorThread:
    """A coordinator that wants certificates; its `stub` is alice's."""
    return coordinate(write(), endpoint=credentials.mutual, security=credentials.of("alice"))


@contextmanager
def calling(server: CoordinatorThread, security: ChannelSecurity) -> Iterator[grpc.Channel]:
    with open_channel(server.address, security) as channel:
        yield channel


def register(channel: grpc.Channel, name: str, clients: set[int] | None = None, **changes: Any) -> pb.RegisterReply:
    held = None if clients is None else pb.ClientRange(clients=sorted(clients))
    fields = {"protocol": PROTOCOL_VERSION, "name": name, "incarnation": INCARNATION, "clients": held, **changes}
    reply: pb.RegisterReply = pb_grpc.CoordinatorStub(channel).Register(pb.RegisterRequest(**fields), timeout=DEADLINE)
    return reply


def call_of(channel: grpc.Channel, method: str, request: Any) -> Callable[[], object]:
    """Return a call by the method's name, to its end or its first message."""
    stub = getattr(pb_grpc.CoordinatorStub(channel), method)
    description = SERVICE.methods_by_name[method]
    if description.client_streaming:
        return lambda: stub(iter((request,)), timeout=DEADLINE)
    if description.server_streaming:
        return lambda: next(stub(request, timeout=DEADLINE))
    return lambda: stub(request, timeout=DEADLINE)


def requests_as(worker_id: str) -> Iterator[tuple[str, Any]]:
    """Yield for every method that says who it is from a request that says this."""
    for method in SERVICE.methods:
        message: Any = getattr(pb, method.input_type.name)()
        if method.name == "Register":
            message.name = worker_id.rpartition(":")[0]
        elif method.name == "SubmitResult":
            message.result.worker_id = worker_id
        elif "worker_id" in method.input_type.fields_by_name:
            message.worker_id = worker_id
        else:
            assert method.name in OBSERVING, "a new call has to say who it is from, or to be one for observers"
            continue
        yield method.name, message


# -- as whom


def test_nobody_acts_as_somebody_else(mutual: CoordinatorThread, credentials: Credentials) -> None:
    alice = HandWorker(mutual, "alice")
    done = alice.work()
    with calling(mutual, credentials.of("bob")) as channel:
        tried = set()
        for method, request in requests_as(alice.id):
            error = fails(call_of(channel, method, request))
            assert (error.code(), error.details()) == (DENIED, "bob may act as bob or bob/…, not as 'alice'"), method
            tried.add(method)
        assert tried == {method.name for method in SERVICE.methods} - OBSERVING
        error = fails(lambda: pb_grpc.CoordinatorStub(channel).SubmitResult(iter(done.messages()), timeout=DEADLINE))
        assert error.code() is DENIED
    assert status(mutual).in_flight == [f"client {done.result.assignment_id.split('-')[1][1:]} on alice"]
    assert alice.submit(done.messages()).verdict == pb.SubmitReply.ACCEPTED


@pytest.mark.parametrize("worker_id", ["", "bob", ":", "alice:x", "bobby:x", "bob\n:x", "Bob:x"])
def test_an_id_that_is_not_ones_own_is_nobodys(
    mutual: CoordinatorThread, credentials: Credentials, worker_id: str
) -> None:
    with calling(mutual, credentials.of("bob")) as channel:
        for method, request in requests_as(worker_id):
            error = fails(call_of(channel, method, request))
            assert error.code() is DENIED, method
            assert (error.details() or "").isprintable()


def test_a_certificate_is_for_several_processes(mutual: CoordinatorThread, credentials: Credentials) -> None:
    with calling(mutual, credentials.of("bob")) as channel:
        assert register(channel, "bob").worker_id == f"bob:{INCARNATION}"
        assert register(channel, "bob/host-1").worker_id == f"bob/host-1:{INCARNATION}"
        for name in ("bobby", "alice", "alice/bob", "/bob", "b"):
            assert fails(partial(register, channel, name)).code() is DENIED
    assert status(mutual).workers == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": ""}, "printable characters without a colon"),
        ({"name": "a:b"}, "printable characters without a colon"),
        ({"name": "a\x1b[2J"}, "name 'a?[2J'"),
        ({"name": "a" * 257}, "expected 1 to 256"),
        ({"incarnation": "1"}, "expected 32 hexadecimal digits"),
        ({"incarnation": f":{'1' * 31}"}, "expected 32 hexadecimal digits"),
    ],
)
def test_names_that_could_be_read_in_two_ways_are_refused(
    server: CoordinatorThread, changes: dict[str, Any], reason: str
) -> None:
    """Also where nobody is asked who they are."""
    error = fails(lambda: register(server.channel, **{"name": "w", **changes}))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason in (error.details() or "")
    assert status(server).workers == 0


def test_reasons_of_others_are_one_line(server: CoordinatorThread, worker: HandWorker) -> None:
    worker.poll()
    leave = pb.LeaveRequest(worker_id=worker.id, reason="gone\n\x1b[2Jround 9/9")
    server.stub.Leave(leave, timeout=DEADLINE)
    assert {row.reason for row in server.run.database.assignments(1)} == {"", "gone??[2Jround 9/9"}


# -- which calls


def test_observers_look_and_workers_may_too(mutual: CoordinatorThread, credentials: Credentials) -> None:
    for name in ("dash", "alice"):
        with calling(mutual, credentials.of(name)) as channel:
            stub = pb_grpc.CoordinatorStub(channel)
            assert stub.GetRun(pb.GetRunRequest(), timeout=DEADLINE).state == pb.RunStatus.RUNNING
            assert next(stub.WatchRun(pb.WatchRunRequest(), timeout=DEADLINE)).state == pb.RunStatus.RUNNING
            assert fetch(stub.FetchModel(pb.FetchModelRequest(), timeout=DEADLINE))


def test_observers_do_nothing_else(mutual: CoordinatorThread, credentials: Credentials) -> None:
    with calling(mutual, credentials.of("dash")) as channel:
        for method, request in requests_as(f"dash:{INCARNATION}"):
            error = fails(call_of(channel, method, request))
            assert (error.code(), error.details()) == (DENIED, "dash is an observer, and this call is for workers")


def never(answered: threading.Event) -> Iterator[bytes]:
    assert answered.wait(DEADLINE), "the answer waits for the body"
    return
    yield b""


@pytest.mark.parametrize("method", [method.name for method in SERVICE.methods])
def test_who_calls_is_found_out_before_anything_is_read(
    credentials: Credentials, coordinate: Coordinate, write: Write, method: str
) -> None:
    """Of unary calls too: the request is announced and never sent."""
    server = coordinate(write(), endpoint=credentials.with_tokens)
    with calling(server, ChannelSecurity(credentials.authority)) as channel:
        answered = threading.Event()
        call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"/{SERVICE.full_name}/{method}")
        answers = call(never(answered), timeout=DEADLINE)
        error = fails(lambda: next(answers))
        answered.set()
        assert error.code() is UNKNOWN
        assert error.details() == "a token is wanted: give --token-file, or LOTTERYFL_TOKEN in the environment"


def test_a_call_without_its_message_is_refused(mutual: CoordinatorThread) -> None:
    call: grpc.StreamUnaryMultiCallable[bytes, bytes] = mutual.channel.stream_unary(f"/{SERVICE.full_name}/GetRun")
    error = fails(lambda: call(iter(()), timeout=DEADLINE))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


# -- standard services


def test_health_is_open_and_reflection_is_not(credentials: Credentials, coordinate: Coordinate, write: Write) -> None:
    probe = f"127.0.0.1:{free_port()}"
    server = coordinate(write(), endpoint=replace(credentials.with_tokens, reflection=True, health=probe))
    check = health_pb2.HealthCheckRequest()
    health: Any = health_pb2_grpc.HealthStub
    with calling(server, ChannelSecurity(credentials.authority)) as channel:
        assert health(channel).Check(check, timeout=DEADLINE).status == 1
        error = fails(lambda: ProtoReflectionDescriptorDatabase(channel).get_services())
        assert error.code() is UNKNOWN
    observer = credentials.by_token(credentials.new_token("watcher", Role.OBSERVER))
    with calling(server, observer) as channel:
        assert SERVICE.full_name in ProtoReflectionDescriptorDatabase(channel).get_services()
    with grpc.insecure_channel(probe) as channel:
        assert health(channel).Check(check, timeout=DEADLINE).status == 1
        error = fails(lambda: pb_grpc.CoordinatorStub(channel).GetRun(pb.GetRunRequest(), timeout=DEADLINE))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED


# -- tokens


def test_tokens_are_accepted_until_they_are_revoked(
    credentials: Credentials, coordinate: Coordinate, write: Write
) -> None:
    server = coordinate(write(), endpoint=credentials.with_tokens)
    token = credentials.new_token("carol")
    with calling(server, credentials.by_token(token)) as channel:
        assert register(channel, "carol/1").worker_id == f"carol/1:{INCARNATION}"
        assert fails(lambda: register(channel, "first")).code() is DENIED
        revoke_token(credentials.tokens, "carol")
        error = fails(lambda: register(channel, "carol/1"))
        assert (error.code(), error.details()) == (UNKNOWN, "the token is unknown, or was revoked")


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "Bearer "),),
        (("authorization", "Bearer nobody.secret"),),
        (("authorization", "Basic TOKEN"),),
        (("authorization", "TOKEN"),),
        (("authorization", "Bearer TOKEN"), ("authorization", "Bearer TOKEN")),
        (("x-authorization", "Bearer TOKEN"),),
    ],
)
def test_anything_else_than_a_token_is_refused(
    credentials: Credentials, coordinate: Coordinate, write: Write, metadata: tuple[tuple[str, str], ...]
) -> None:
    server = coordinate(write(), endpoint=credentials.with_tokens)
    known = credentials.new_token(f"known-{len(credentials.tokens.read_text())}")
    sent = tuple((key, value.replace("TOKEN", known)) for key, value in metadata)
    with calling(server, ChannelSecurity(credentials.authority)) as channel:
        stub = pb_grpc.CoordinatorStub(channel)
        good = stub.GetRun(pb.GetRunRequest(), timeout=5, metadata=(("authorization", f"Bearer {known}"),))
        assert good.state == pb.RunStatus.RUNNING
        error = fails(lambda: stub.GetRun(pb.GetRunRequest(), timeout=5, metadata=sent))
        assert error.code() is UNKNOWN
        assert known not in (error.details() or "")


def test_certificate_and_token_must_agree(credentials: Credentials, coordinate: Coordinate, write: Write) -> None:
    both = replace(credentials.mutual, tokens=credentials.with_tokens.tokens)
    server = coordinate(write(), endpoint=both)
    token = credentials.new_token("bob")
    for name, expected in (("bob", None), ("alice", "certificate and token are not of the same peer")):
        with calling(server, replace(credentials.by_token(token), tls=credentials.files(name))) as channel:
            if expected is None:
                assert register(channel, "bob").worker_id
            else:
                error = fails(lambda: register(channel, "bob"))
                assert (error.code(), error.details()) == (UNKNOWN, expected)


# -- whose clients


def test_workers_hold_the_clients_that_the_experiment_gives_them(
    credentials: Credentials, coordinate: Coordinate, write: Write
) -> None:
    path = write(clients_per_round=4, access={"workers": {"alice": "0,2-3"}})
    server = coordinate(path, endpoint=credentials.mutual, security=credentials.of("alice"))
    with calling(server, credentials.of("bob")) as channel:
        error = fails(lambda: register(channel, "bob", {0}))
        assert (error.code(), error.details()) == (DENIED, "bob is not among the experiment's access.workers")
    error = fails(lambda: register(server.channel, "alice", {0, 1}))
    assert (error.code(), error.details()) == (DENIED, "alice may hold clients 0,2-3, not 1")
    assert "alice" not in register(server.channel, "alice", {2}).experiment_json
    clients = []
    worker = HandWorker(server, "alice")  # says that it holds every client
    while not (parts := worker.poll(wait_seconds=0.2))[0].HasField("none"):
        clients.append(parts[0].assignment.client)
        assert worker.submit(worker.do(parts).messages()).verdict == pb.SubmitReply.ACCEPTED
    assert sorted(clients) == [0, 2, 3]
