"""Transfers over a real socket: those that are cut go on where they were cut, and content comes by its digest."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest

from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.handworker import Done, HandWorker
from tests.support.looking import fails, fetch, status, stored
from tests.support.waiting import DEADLINE, until

Messages = list[pb.ResultPart]


def without_trailer(messages: Messages) -> Messages:
    return messages[:-1]


def test_an_upload_without_its_end_does_not_count_and_may_come_again(
    server: CoordinatorThread, worker: HandWorker
) -> None:
    """To an aio server a sender that died looks like one that has finished."""
    done = worker.work()
    error = fails(lambda: worker.submit(without_trailer(done.messages())))
    assert error.code() is grpc.StatusCode.ABORTED
    assert "the stream ended before its trailer" in (error.details() or "")
    assert status(server).results == 0
    assert worker.submit(done.messages()).verdict == pb.SubmitReply.ACCEPTED
    assert stored(server) == [f"{done.result.assignment_id}.1.safetensors"], "of the first upload nothing is left"


def received(server: CoordinatorThread, done: Done) -> int:
    """Return how much the coordinator says that it has of a cut upload."""
    request = pb.FindUploadRequest(worker_id=done.result.worker_id, assignment_id=done.result.assignment_id)
    reply: pb.FindUploadReply = server.stub.FindUpload(request, timeout=DEADLINE)
    return reply.received


def test_an_upload_that_was_cut_goes_on_where_it_was_cut(server: CoordinatorThread, worker: HandWorker) -> None:
    done = worker.work()
    never = threading.Event()
    head, *_ = messages = done.messages()
    size = head.result.payload.size

    def stuck() -> Iterator[pb.ResultPart]:
        yield head
        yield pb.ResultPart(chunk=b"".join(part.chunk for part in messages)[: size // 2])
        never.wait(DEADLINE)

    call = server.stub.SubmitResult.future(stuck())
    until(lambda: bool(stored(server)))
    call.cancel()
    until(lambda: received(server, done) > 0)
    never.set()
    cut = received(server, done)
    assert cut <= size // 2, "it may have been cut earlier than all was read that was sent"
    assert status(server).results == 0
    assert received(server, replace(done, result=pb.Result(worker_id="other:1"))) == 0
    up_before = status(server).bytes_up
    assert worker.submit(done.messages(offset=cut)).verdict == pb.SubmitReply.ACCEPTED
    assert received(server, done) == 0
    rest = size - cut
    assert rest < status(server).bytes_up - up_before < rest + 1000, "the first half has not come again"


def test_an_upload_cannot_go_on_where_nothing_was_cut(server: CoordinatorThread, worker: HandWorker) -> None:
    done = worker.work()
    error = fails(lambda: worker.submit(done.messages(offset=100)))
    assert error.code() is grpc.StatusCode.ABORTED
    assert "nothing is here of its first 100 bytes" in (error.details() or "")
    assert worker.submit(done.messages()).verdict == pb.SubmitReply.ACCEPTED


def test_what_was_cut_and_never_came_again_is_gone_with_its_round(
    server: CoordinatorThread, worker: HandWorker
) -> None:
    done = worker.work()
    fails(lambda: worker.submit(without_trailer(done.messages())))
    assert received(server, done) == done.result.payload.size
    assert any(name.endswith(".part") for name in stored(server))
    for _ in worker.finish():
        pass
    assert server.ended() == ""
    assert not any(name.endswith(".part") for name in stored(server))


def test_a_download_goes_on_from_any_offset(server: CoordinatorThread, worker: HandWorker) -> None:
    whole, rest, another = (
        worker.poll(assignment_id=id_, offset=offset)
        for id_, offset in (("", 0), ("r1-c{}-a1", 5), ("r1-c99-a1", 5))
        for id_ in [id_.format(worker.poll()[0].assignment.client)]
    )
    assert whole[0].assignment.assignment_id == rest[0].assignment.assignment_id
    assert rest[0].assignment.payload == pb.PayloadHeader(size=whole[0].assignment.payload.size, offset=5)
    assert chunks_of(rest) == chunks_of(whole)[5:]
    assert rest[-1] == whole[-1], "size and checksum of the whole"
    assert another == whole


def chunks_of(parts: list[pb.AssignmentPart]) -> bytes:
    return b"".join(part.chunk for part in parts)


def test_content_comes_by_digest_and_from_any_offset(server: CoordinatorThread) -> None:
    digest = server.run.initial_digest
    whole = fetch(server.stub.FetchBlob(pb.FetchBlobRequest(digest=digest), timeout=DEADLINE))
    assert hashlib.sha256(whole).hexdigest() == digest
    for offset in (1, 1000, len(whole)):
        rest = fetch(server.stub.FetchBlob(pb.FetchBlobRequest(digest=digest, offset=offset), timeout=DEADLINE))
        assert rest == whole[offset:]
    beyond = pb.FetchBlobRequest(digest=digest, offset=len(whole) + 1)
    assert fails(lambda: list(server.stub.FetchBlob(beyond))).code() is grpc.StatusCode.OUT_OF_RANGE


@pytest.mark.parametrize("digest", ["", "0" * 64, "../run.db", "../" * 20 + "x" * 4, "/etc/passwd", "*"])
def test_content_that_is_not_there_is_not_found(server: CoordinatorThread, digest: str) -> None:
    error = fails(lambda: list(server.stub.FetchBlob(pb.FetchBlobRequest(digest=digest), timeout=DEADLINE)))
    assert error.code() is grpc.StatusCode.NOT_FOUND
