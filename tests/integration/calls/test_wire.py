"""The contract over a real socket, with messages made by hand: what counts, what is refused, who waits for what."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from lotteryfl.common.security.channel import POLL_SECONDS, PROTOCOL_VERSION
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.summary import summarise
from lotteryfl.server.rpc.endpoint import Endpoint
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.handworker import INCARNATION, HandWorker
from tests.support.looking import fails, fetch, status, stored
from tests.support.runs import Coordinate, Expect, Write
from tests.support.waiting import DEADLINE, until

SERVICE = "lotteryfl.v1.Coordinator"
Verdict = pb.SubmitReply.Verdict
Messages = list[pb.ResultPart]


# -- standard services


def test_health_answers_and_reflection_does_not(server: CoordinatorThread) -> None:
    health = health_pb2_grpc.HealthStub(server.channel)
    for service in ("", SERVICE):
        reply = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE)  # type: ignore[attr-defined]
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    error = fails(lambda: ProtoReflectionDescriptorDatabase(server.channel).get_services())
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_reflection_answers_where_it_is_wanted(coordinate: Coordinate, write: Write) -> None:
    server = coordinate(write(), endpoint=Endpoint("127.0.0.1:0", reflection=True))
    reflection = ProtoReflectionDescriptorDatabase(server.channel)
    services = set(reflection.get_services())
    assert services == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    file = reflection.FindFileContainingSymbol(SERVICE)
    assert [method.name for method in file.service[0].method][:3] == [
        "Register",
        "FetchAssignment",
        "SubmitResult",
    ]


# -- registration


def test_another_protocol_version_is_turned_away(server: CoordinatorThread) -> None:
    request = pb.RegisterRequest(protocol=99, name="new", incarnation=INCARNATION, device="cpu")
    error = fails(lambda: server.stub.Register(request, timeout=DEADLINE))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert f"the worker speaks protocol 99, the coordinator {PROTOCOL_VERSION}" in (error.details() or "")


def test_a_worker_of_another_run_is_turned_away(server: CoordinatorThread) -> None:
    """It would go on with the other run's model and settings."""
    request = pb.RegisterRequest(protocol=PROTOCOL_VERSION, name="w", incarnation=INCARNATION, device="cpu")
    request.run_id = server.stub.Register(request, timeout=DEADLINE).run_id
    assert request.run_id
    assert server.stub.Register(request, timeout=DEADLINE).worker_id == f"w:{INCARNATION}"
    request.run_id = "another"
    error = fails(lambda: server.stub.Register(request, timeout=DEADLINE))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "another run is here now" in (error.details() or "")


def test_a_machine_that_cannot_be_is_refused(server: CoordinatorThread) -> None:
    request = pb.RegisterRequest(protocol=PROTOCOL_VERSION, name="w", incarnation=INCARNATION, device="a card")
    error = fails(lambda: server.stub.Register(request, timeout=DEADLINE))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "device 'a card': expected a kind and perhaps a number, as cuda:0"


def test_who_is_not_registered_is_told_so(server: CoordinatorThread) -> None:
    calls = (
        lambda: server.stub.Heartbeat(pb.HeartbeatRequest(worker_id="ghost:1"), timeout=DEADLINE),
        lambda: next(server.stub.FetchAssignment(pb.FetchAssignmentRequest(worker_id="ghost:1"), timeout=DEADLINE)),
    )
    for call in calls:
        error = fails(call)
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "ghost:1: register first" in (error.details() or "")


# -- uploads


def with_wrong_checksum(messages: Messages) -> Messages:
    messages[-1].trailer.crc32 ^= 1
    return messages


def with_more_than_announced(messages: Messages) -> Messages:
    return [*messages[:-1], pb.ResultPart(chunk=b"more"), messages[-1]]


def with_less_than_announced(messages: Messages) -> Messages:
    messages[-2].chunk = messages[-2].chunk[:-1]
    return messages


def with_a_second_header(messages: Messages) -> Messages:
    return [messages[0], *messages]


def with_an_empty_message(messages: Messages) -> Messages:
    return [messages[0], pb.ResultPart(), *messages[1:]]


def announcing_too_much(messages: Messages) -> Messages:
    messages[0].result.payload.size = 2**60
    return messages


def without_examples(messages: Messages) -> Messages:
    messages[0].result.examples = 0
    return messages


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (with_wrong_checksum, "checksum"),
        (with_more_than_announced, "bytes received"),
        (with_less_than_announced, "bytes received"),
        (with_a_second_header, "expected a chunk or the trailer, got result"),
        (with_an_empty_message, "got an empty message"),
        (announcing_too_much, f"{2**60} bytes announced, at most"),
        (without_examples, "examples = 0: expected 1 to"),
    ],
)
def test_a_spoilt_upload_is_refused_and_its_work_given_out_again(
    server: CoordinatorThread,
    worker: HandWorker,
    spoil: Callable[[Messages], Messages],
    reason: str,
) -> None:
    done = worker.work()
    reply = worker.submit(spoil(done.messages()))
    assert Verdict.Name(reply.verdict) == "REFUSED"
    assert reason in reply.reason
    assert (status(server).results, stored(server)) == (0, [])
    again = worker.work()
    assert again.result.assignment_id == done.result.assignment_id.replace("-a1", "-a2")
    assert worker.submit(again.messages()).verdict == pb.SubmitReply.ACCEPTED
    assert (status(server).results, len(stored(server))) == (1, 1)


def test_messages_that_are_none_are_refused_and_the_work_given_out_again(
    server: CoordinatorThread, worker: HandWorker, caplog: pytest.LogCaptureFixture
) -> None:
    submit: grpc.StreamUnaryMultiCallable[bytes, pb.SubmitReply] = server.channel.stream_unary(
        f"/{SERVICE}/SubmitResult", response_deserializer=pb.SubmitReply.FromString
    )
    garbage = b"\x0a\xff"
    assert submit(iter([garbage]), timeout=DEADLINE).verdict == pb.SubmitReply.STALE
    first, *_ = worker.work().messages()
    reply = submit(iter([first.SerializeToString(), garbage]), timeout=DEADLINE)
    assert reply.verdict == pb.SubmitReply.REFUSED
    assert "a message of 2 bytes is not one of the stream" in reply.reason
    assert worker.submit(worker.work().messages()).verdict == pb.SubmitReply.ACCEPTED
    assert caplog.records == []


def test_a_number_that_is_not_finite_is_refused_by_the_tensors_name(
    server: CoordinatorThread, worker: HandWorker
) -> None:
    done = worker.work()
    done.entries["kept/2.weight"][3] = torch.nan
    reply = worker.submit(done.messages())
    assert Verdict.Name(reply.verdict) == "REFUSED"
    assert "kept/2.weight: value nan at flat index 3" in reply.reason
    assert (status(server).results, stored(server)) == (0, [])


# -- goodbye


def test_who_leaves_hands_back_what_it_holds_and_what_is_on_its_way(
    server: CoordinatorThread, worker: HandWorker
) -> None:
    first = worker.poll()[0].assignment
    server.stub.Leave(pb.LeaveRequest(worker_id=worker.id, reason="w: was stopped"), timeout=DEADLINE)
    assert status(server).in_flight == []
    (row,) = [row for row in server.run.database.assignments(1) if row.client == first.client]
    assert (row.state, row.reason) == ("waiting", "w: was stopped")
    again = HandWorker(server, "other").poll()[0].assignment
    assert (again.client, again.assignment_id[-3:]) == (first.client, "-a2")
    server.stub.Leave(pb.LeaveRequest(worker_id="nobody:1"), timeout=DEADLINE)


def only_the_header(messages: Messages, answered: threading.Event) -> Iterator[pb.ResultPart]:
    yield messages[0]
    assert answered.wait(DEADLINE), "the answer waits for the body"


def test_what_need_not_be_read_is_answered_before_the_body(server: CoordinatorThread, worker: HandWorker) -> None:
    def verdict_on_header(messages: Messages) -> str:
        answered = threading.Event()
        reply = worker.submit(only_the_header(messages, answered))
        answered.set()
        return Verdict.Name(reply.verdict)

    done = worker.work()
    assert verdict_on_header(announcing_too_much(done.messages())) == "REFUSED"
    assert verdict_on_header(done.messages()) == "STALE"
    done = worker.work()
    assert worker.submit(done.messages()).verdict == pb.SubmitReply.ACCEPTED
    files, before = stored(server), status(server)
    assert verdict_on_header(done.messages()) == "DUPLICATE"
    assert worker.submit(done.messages()).verdict == pb.SubmitReply.DUPLICATE
    done.result.worker_id = "somebody:else"
    assert verdict_on_header(done.messages()) == "STALE"
    assert verdict_on_header([pb.ResultPart(chunk=b"no header")]) == "STALE"
    after = status(server)
    assert (after.results, after.bytes_up, stored(server)) == (1, before.bytes_up, files)


# -- waiting


def test_a_long_poll_ends_when_work_appears_or_its_time_is_over(
    server: CoordinatorThread, worker: HandWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [HandWorker(server, f"holder-{number}") for number in range(3)]
    assignments = [holder.poll()[0].assignment for holder in held]

    begin = time.monotonic()
    (nothing,) = worker.poll(wait_seconds=0.3)
    assert 0.3 <= time.monotonic() - begin < POLL_SECONDS
    assert nothing.none == pb.NoWork()
    for impatient in (0.0, -1.0):
        assert worker.poll(wait_seconds=impatient) == [nothing]

    polled: list[pb.AssignmentPart] = []
    poll = threading.Thread(target=lambda: polled.extend(worker.poll(wait_seconds=10 * DEADLINE)))
    monkeypatch.setattr("lotteryfl.server.rpc.service.POLL_SECONDS", 10 * DEADLINE)
    poll.start()
    until(lambda: status(server).workers == 4)
    held[1].hand_back(assignments[1].assignment_id)
    poll.join(DEADLINE)
    assert not poll.is_alive()
    assert polled[0].assignment.client == assignments[1].client


@pytest.mark.parametrize("wait_seconds", [30.0, float("nan")])
def test_waiting_for_work_costs_nothing(server: CoordinatorThread, worker: HandWorker, wait_seconds: float) -> None:
    for number in range(3):
        HandWorker(server, f"holder-{number}").poll()
    request = pb.FetchAssignmentRequest(worker_id=worker.id, wait_seconds=wait_seconds)
    begin = time.process_time()
    error = fails(lambda: next(server.stub.FetchAssignment(request, timeout=1)))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.process_time() - begin < 0.2


# -- a whole run


def test_observers_see_the_run_to_its_end(
    server: CoordinatorThread, write: Write, expect: Expect, tmp_path: Path
) -> None:
    seen: list[pb.RunStatus] = []
    watch = server.stub.WatchRun(pb.WatchRunRequest(), timeout=DEADLINE)
    watching = threading.Thread(target=lambda: seen.extend(watch))
    watching.start()
    for reply in HandWorker(server).finish():
        assert reply.verdict == pb.SubmitReply.ACCEPTED
        now = status(server)
        file = server.run.path / f"models/round-{now.round:04d}.safetensors"
        model = fetch(server.stub.FetchModel(pb.FetchModelRequest(), timeout=DEADLINE))
        assert status(server).round > now.round or model == file.read_bytes()
    watching.join(DEADLINE)
    assert not watching.is_alive()
    assert seen[0].state == pb.RunStatus.RUNNING
    assert seen[-1].state == pb.RunStatus.FINISHED
    assert [s.last.round for s in seen] == sorted(s.last.round for s in seen)
    assert any(s.in_flight == ["client 0 on hand"] for s in seen)
    assert server.ended() == ""
    assert summarise(server.run)["tickets_sha256"] == expect(write())["tickets_sha256"]
