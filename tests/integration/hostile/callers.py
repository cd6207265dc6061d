"""Calls that must come to nothing, each made by a worker with a certificate of its own, and the answer to each."""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.message import Message

from lotteryfl.common.security.channel import POLL_SECONDS, PROTOCOL_VERSION
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.integration.hostile.rawpeer import Code, RawPeer


class Victim(NamedTuple):
    """What an attacker has found out of another worker, who is at work."""

    id: str
    assignment_id: str
    replay: list[bytes]
    """A result that counted in a round that is over."""


Attack = Callable[[RawPeer, Victim], None]
ATTACKS: dict[str, Attack] = {}

HUGE = "x" * 3_900_000
"""Just below what any message may weigh, and far above what one that is no chunk may."""

LONG = "x" * 1025
"""One character more than a text may have."""

TOO_LARGE = r"a message has \d{7} bytes: at most 1048576 are taken"
TOO_LONG = "has 1025 characters: at most 1024 are taken"


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__.replace("_", " ")] = function
    return function


def expect(peer: RawPeer, code: Code, details: str, method: str, *messages: Message | bytes) -> None:
    """Make a call and look at its refusal, whole."""
    answer = peer.call(method, *messages)
    assert isinstance(answer, tuple), f"{method} was answered"
    assert answer[0] is code, answer
    assert re.fullmatch(details, answer[1]), answer
    assert len(answer[1]) < 1000


def register_as(name: str, incarnation: str = "1" * 32, **fields: Any) -> pb.RegisterRequest:
    return pb.RegisterRequest(protocol=PROTOCOL_VERSION, name=name, incarnation=incarnation, **fields)


def result_of(worker_id: str, assignment_id: str) -> pb.ResultPart:
    return pb.ResultPart(result=pb.Result(worker_id=worker_id, assignment_id=assignment_id))


def verdict(peer: RawPeer, *messages: Message | bytes) -> str:
    reply = peer.submit([each if isinstance(each, bytes) else each.SerializeToString() for each in messages])
    return pb.SubmitReply.Verdict.Name(reply.verdict)


@attack
def acting_as_the_victim(peer: RawPeer, victim: Victim) -> None:
    name = re.escape(victim.id.partition(":")[0])
    me = re.escape(peer.name)
    denied = f"{me} may act as {me} or {me}/…, not as '{name}'"
    requests: dict[str, Message] = {
        "Register": register_as(victim.id.partition(":")[0], incarnation="2" * 32),
        "FetchAssignment": pb.FetchAssignmentRequest(worker_id=victim.id),
        "SubmitResult": result_of(victim.id, victim.assignment_id),
        "FindUpload": pb.FindUploadRequest(worker_id=victim.id, assignment_id=victim.assignment_id),
        "Heartbeat": pb.HeartbeatRequest(worker_id=victim.id),
        "Leave": pb.LeaveRequest(worker_id=victim.id, told_to_stop=True),
        "FetchBlob": pb.FetchBlobRequest(worker_id=victim.id, digest="0" * 64),
    }
    for method, request in requests.items():
        expect(peer, Code.PERMISSION_DENIED, denied, method, request)


@attack
def the_victims_assignment_in_ones_own_name(peer: RawPeer, victim: Victim) -> None:
    peer.worker()
    hopeless = pb.Failure(reason="there is no hope", hopeless=True)
    failed = pb.Result(worker_id=peer.id, assignment_id=victim.assignment_id, failure=hopeless)
    assert verdict(peer, result_of(peer.id, victim.assignment_id), pb.ResultPart(chunk=b"x")) == "STALE"
    assert verdict(peer, pb.ResultPart(result=failed)) == "STALE"
    progress = pb.AssignmentProgress(assignment_id=victim.assignment_id, epoch=9)
    beat = peer.ask("Heartbeat", pb.HeartbeatRequest(worker_id=peer.id, progress=[progress]))
    assert pb.HeartbeatReply.FromString(beat).cancel == [victim.assignment_id]


@attack
def a_past_result_in_ones_own_name(peer: RawPeer, victim: Victim) -> None:
    first = pb.ResultPart.FromString(victim.replay[0])
    first.result.worker_id = peer.id
    assert verdict(peer, first, *victim.replay[1:]) == "STALE"


@attack
def a_past_result_as_it_was(peer: RawPeer, victim: Victim) -> None:
    answer = peer.call("SubmitResult", *victim.replay)
    assert isinstance(answer, tuple)
    assert answer[0] is Code.PERMISSION_DENIED


@attack
def assignments_that_nobody_has(peer: RawPeer, victim: Victim) -> None:
    for assignment_id in ("", "r2-c0-a99", "r99-c0-a1", "../../run.db", "r1-c0-a1\0", LONG[1:]):
        assert verdict(peer, result_of(peer.id, assignment_id)) == "STALE"
    long = f"Result.assignment_id {TOO_LONG}"
    expect(peer, Code.INVALID_ARGUMENT, long, "SubmitResult", result_of(peer.id, LONG))
    expect(peer, Code.RESOURCE_EXHAUSTED, TOO_LARGE, "SubmitResult", result_of(peer.id, HUGE))
    assert verdict(peer, pb.ResultPart(chunk=b"no header")) == "STALE"


@attack
def an_upload_cut_at_its_header(peer: RawPeer, victim: Victim) -> None:
    assigned = take(peer)
    head = result_of(peer.id, assigned.assignment_id)
    head.result.payload.size = 1000
    expect(peer, Code.ABORTED, "upload: the stream ended before its trailer", "SubmitResult", head)
    head.result.payload.offset = 900
    expect(peer, Code.ABORTED, "upload: nothing is here of its first 900 bytes", "SubmitResult", head)
    leave(peer)


@attack
def a_word_that_would_end_the_run(peer: RawPeer, victim: Victim) -> None:
    """It hands the work back, whoever says it."""
    assigned = take(peer)
    failure = pb.Failure(reason="there is no hope\n\x1b[2J", hopeless=True)
    failed = pb.Result(worker_id=peer.id, assignment_id=assigned.assignment_id, failure=failure)
    assert verdict(peer, pb.ResultPart(result=failed)) == "ACCEPTED"
    status = peer.ask("GetRun", pb.GetRunRequest())
    assert pb.RunStatus.FromString(status).state == pb.RunStatus.RUNNING


@attack
def numbers_that_are_none(peer: RawPeer, victim: Victim) -> None:
    peer.worker()
    for loss in (math.nan, -math.inf):
        progress = pb.AssignmentProgress(assignment_id=victim.assignment_id, loss=loss, step=2**64 - 1)
        assert len(peer.call("Heartbeat", pb.HeartbeatRequest(worker_id=peer.id, progress=[progress]))) == 1
    for offset in (1, 2**63, 2**64 - 1):
        digest = pb.FetchBlobRequest(worker_id=peer.id, digest="0" * 64, offset=offset)
        expect(peer, Code.NOT_FOUND, "no content with digest '0{64}'", "FetchBlob", digest)
    for seconds in (math.nan, -math.inf, -1.0):
        request = pb.FetchAssignmentRequest(worker_id=peer.id, wait_seconds=seconds, offset=2**64 - 1)
        answer = peer.call("FetchAssignment", request)
        assert isinstance(answer, list)
    leave(peer)


@attack
def a_digest_of_three_million_characters(peer: RawPeer, victim: Victim) -> None:
    """It is no result yet that could be refused: whoever holds the work goes on with it."""
    head = result_of(peer.id, take(peer).assignment_id)
    head.result.payload.size = 1000
    head.result.mask_digest = "0" * 3_000_000
    expect(peer, Code.RESOURCE_EXHAUSTED, TOO_LARGE, "SubmitResult", head)
    head.result.mask_digest = LONG
    expect(peer, Code.INVALID_ARGUMENT, f"Result.mask_digest {TOO_LONG}", "SubmitResult", head)
    leave(peer)


@attack
def a_heartbeat_of_a_hundred_thousand_lines(peer: RawPeer, victim: Victim) -> None:
    peer.worker()

    def beat(lines: int) -> pb.HeartbeatRequest:
        progress = [pb.AssignmentProgress(assignment_id=f"r2-c{number}-a1") for number in range(lines)]
        return pb.HeartbeatRequest(worker_id=peer.id, progress=progress)

    expect(peer, Code.RESOURCE_EXHAUSTED, TOO_LARGE, "Heartbeat", beat(100_000))
    more = "progress has 50000 entries: the experiment has 4 clients"
    expect(peer, Code.INVALID_ARGUMENT, more, "Heartbeat", beat(50_000))
    answer = peer.ask("Heartbeat", beat(4))
    cancel = pb.HeartbeatReply.FromString(answer).cancel
    assert cancel == [f"r2-c{number}-a1" for number in range(4)]


def texts(peer: RawPeer, text: str) -> dict[str, tuple[str, Message]]:
    """Return requests with a text of the sender's choice, by the name of its field."""
    ghost = f"{peer.name}:"
    owned, ghostly = (f"{begin}{text[len(begin) :]}" for begin in (f"{peer.name}/", ghost))
    return {
        "RegisterRequest.name": ("Register", register_as(owned)),
        "RegisterRequest.incarnation": ("Register", register_as(peer.name, incarnation=text)),
        "RegisterRequest.run_id": ("Register", register_as(peer.name, run_id=text)),
        "HeartbeatRequest.worker_id": ("Heartbeat", pb.HeartbeatRequest(worker_id=ghostly)),
        "FetchAssignmentRequest.worker_id": ("FetchAssignment", pb.FetchAssignmentRequest(worker_id=ghostly)),
        "LeaveRequest.reason": ("Leave", pb.LeaveRequest(worker_id=ghost, reason=text)),
        "FetchBlobRequest.digest": ("FetchBlob", pb.FetchBlobRequest(worker_id=peer.id, digest=text)),
    }


@attack
def words_without_end(peer: RawPeer, victim: Victim) -> None:
    """What is said at length is neither kept nor said back: not read, not taken, or cut short."""
    for method, request in texts(peer, HUGE).values():
        expect(peer, Code.RESOURCE_EXHAUSTED, TOO_LARGE, method, request)
    for field, (method, request) in texts(peer, LONG).items():
        expect(peer, Code.INVALID_ARGUMENT, f"{field} {TOO_LONG}", method, request)
    name, taken = re.escape(peer.name), texts(peer, LONG[1:])
    unknown = Code.NOT_FOUND, f"worker {name}:x{{{288 - len(peer.name)}}}: register first"
    for field, (code, details) in {
        "RegisterRequest.name": (Code.INVALID_ARGUMENT, f"name '{name}/x{{{63 - len(peer.name)}}}': expected 1 to .*"),
        "RegisterRequest.incarnation": (
            Code.INVALID_ARGUMENT,
            "incarnation 'x{40}': expected 32 hexadecimal digits",
        ),
        "RegisterRequest.run_id": (Code.FAILED_PRECONDITION, "another run is here now .*"),
        "HeartbeatRequest.worker_id": unknown,
        "FetchAssignmentRequest.worker_id": unknown,
        "FetchBlobRequest.digest": (Code.NOT_FOUND, r"no content with digest 'x+\.\.\.x+'"),
    }.items():
        expect(peer, code, details, taken[field][0], taken[field][1])
    method, request = taken["LeaveRequest.reason"]
    assert len(peer.call(method, request)) == 1, "nobody is there to leave"


@attack
def a_million_clients(peer: RawPeer, victim: Victim) -> None:
    for clients, code, details in (
        (range(1_000_000), Code.RESOURCE_EXHAUSTED, TOO_LARGE),
        (range(100_000), Code.INVALID_ARGUMENT, "client 99999: the experiment's clients are 0 to 3"),
        ([3] * 1_000_000, Code.INVALID_ARGUMENT, "clients has 1000000 entries: the experiment has 4 clients"),
    ):
        request = register_as(peer.name, clients=pb.ClientRange(clients=clients))
        expect(peer, code, details, "Register", request)


@attack
def content_that_is_no_content(peer: RawPeer, victim: Victim) -> None:
    for digest in ("", "../run.db", "models/round-0000.safetensors", "A" * 64, "0" * 63):
        blob = pb.FetchBlobRequest(worker_id=peer.id, digest=digest)
        expect(peer, Code.NOT_FOUND, f"no content with digest '{re.escape(digest)}'", "FetchBlob", blob)


@attack
def methods_that_there_are_not(peer: RawPeer, victim: Victim) -> None:
    for method in ("Shutdown", "/lotteryfl.v1.Admin/Stop", "/grpc.reflection.v1alpha.ServerReflection/X", "/../x"):
        expect(peer, Code.UNIMPLEMENTED, "Method not found!", method, b"")


@attack
def metadata_without_end(peer: RawPeer, victim: Victim) -> None:
    answer = peer.call("GetRun", b"", metadata=[("x-hostile", "x" * 100_000)])
    assert isinstance(answer, tuple)
    assert answer[0] is Code.RESOURCE_EXHAUSTED


@attack
def messages_that_are_none(peer: RawPeer, victim: Victim) -> None:
    for method in ("Register", "Heartbeat", "GetRun", "FetchAssignment"):
        corrupt = rf"a message of the call is none: Error parsing message with type '\S+\.{method}Request'.*"
        expect(peer, Code.INVALID_ARGUMENT, corrupt, method, b"\x0a\xff")
        expect(peer, Code.INVALID_ARGUMENT, "the call brought no message", method)


@attack
def a_message_of_five_million_bytes(peer: RawPeer, victim: Victim) -> None:
    message = pb.HeartbeatRequest(worker_id=f"{peer.name}:{HUGE}{HUGE}")
    details = r"CLIENT: Received message larger than max \(\d+ vs\. 4194304\)|.*larger than max.*"
    expect(peer, Code.RESOURCE_EXHAUSTED, details, "Heartbeat", message)


def take(peer: RawPeer) -> pb.Assignment:
    peer.worker()
    answer = peer.call("FetchAssignment", pb.FetchAssignmentRequest(worker_id=peer.id, wait_seconds=POLL_SECONDS))
    assert isinstance(answer, list), answer
    assignment = pb.AssignmentPart.FromString(answer[0]).assignment
    assert assignment.assignment_id
    return assignment


def leave(peer: RawPeer) -> None:
    """Hand back what is held, as one that was told to stop."""
    assert len(peer.call("Leave", pb.LeaveRequest(worker_id=peer.id, told_to_stop=True))) == 1
