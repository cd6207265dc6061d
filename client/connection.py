"""A worker's line to the coordinator: every call with a deadline, retried while the coordinator is away."""

import hashlib
import logging
import random
from collections.abc import Callable, Collection
from contextlib import ExitStack
from threading import Lock
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from tenacity import RetryCallState, Retrying, retry_if_exception
from torch import Tensor

from lotteryfl.client.download import CannotResumeError, Download
from lotteryfl.client.idlewatch import IdleWatch
from lotteryfl.client.underway import UnderWay
from lotteryfl.common.errors import LotteryFLError, PayloadError
from lotteryfl.common.faults import LostError, fault
from lotteryfl.common.names import Digest, WorkerId
from lotteryfl.common.security.channel import (
    CALL_SECONDS,
    GOODBYE_SECONDS,
    POLL_SECONDS,
    STREAM_IDLE_SECONDS,
    open_channel,
    raise_if_refused,
)
from lotteryfl.common.security.rpcerror import explain
from lotteryfl.common.security.tls import ChannelSecurity, SecurityError
from lotteryfl.common.telemetry import tracing
from lotteryfl.common.telemetry.stages import Stages
from lotteryfl.common.tensors.receiver import MemoryReceiver
from lotteryfl.common.tensors.tensorreceiver import Place, TensorReceiver, new_tensor
from lotteryfl.common.wire.framing import Payload, deserializer, frames, serialize
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc

_log = logging.getLogger("lotteryfl.worker")
T = TypeVar("T")

_SERVICE = pb.DESCRIPTOR.services_by_name["Coordinator"].full_name

_JITTER = random.SystemRandom()  # of pauses; the global generator is what a task may draw from beside them

_TRANSIENT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,  # others may have taken more than their share
}


class NotRegisteredError(LotteryFLError):
    """The coordinator does not know this worker (any more): it must register again."""


class ContentGoneError(LotteryFLError):
    """The coordinator does not have this content (any more)."""


class Connection:
    """One channel to one coordinator."""

    def __init__(
        self,
        address: str,
        patience: float,
        security: ChannelSecurity | None = None,
        stages: Stages | None = None,
    ) -> None:
        """Open the channel; nothing is sent yet.

        Args:
            address: HOST:PORT of the coordinator.
            patience: seconds for which a call is tried again while the coordinator cannot be reached.
            security: how the channel is secured; None: not at all, which is enough on this machine alone.
            stages: are told what download and upload take; None: nobody is.

        Raises:
            SecurityError: it cannot be secured so.
        """
        self._address = address
        self._patience = patience
        self._security = security or ChannelSecurity()
        self._stages = stages or Stages()
        self._assignment = Download[dict[str, Tensor]]()
        self._under_way = UnderWay()
        self._opening = Lock()
        self._channels = ExitStack()
        self._open()

    def _open(self) -> None:
        self._version = self._security.tls.version()
        channel = open_channel(self._address, self._security)
        self._channels.callback(channel.close)
        self._stub = pb_grpc.CoordinatorStub(channel)
        # Streams of tensors bypass protobuf where it would copy every chunk.
        self._fetch_assignment: Any = channel.unary_stream(
            _method("FetchAssignment"), serialize, deserializer(pb.AssignmentPart)
        )
        self._fetch_blob: Any = channel.unary_stream(_method("FetchBlob"), serialize, deserializer(pb.BlobPart))
        self._submit_result: Any = channel.stream_unary(_method("SubmitResult"), serialize, pb.SubmitReply.FromString)

    def _open_if_renewed(self) -> None:
        """Go on over another channel where the certificates are others now; what is under way stays where it is."""
        with self._opening:
            if self._security.tls.version() == self._version:
                return
            try:
                self._open()
                _log.info("coordinator %s: certificates were read again", self._address)
            except SecurityError as error:
                _log.warning("%s; the certificates from before are used on", error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An interrupt may come when gRPC has begun a call and nobody looks after it yet: closing waits for it for ever.
        if not isinstance(error, KeyboardInterrupt):
            self._channels.close()

    def hang_up(self) -> None:
        """Cancel what is under way in other threads and try nothing again, until the next `pick_up`."""
        self._under_way.cancel()

    def pick_up(self) -> None:
        """Let calls go through, after a `hang_up`."""
        self._under_way = UnderWay()

    def register(self, request: pb.RegisterRequest) -> pb.RegisterReply:
        """Announce the worker."""
        return self._retried(lambda: self._stub.Register(request, timeout=CALL_SECONDS))

    def heartbeat(self, request: pb.HeartbeatRequest, interval: float) -> pb.HeartbeatReply:
        """Tell progress, once and within an interval: the next heartbeat is the retry.

        Raises:
            NotRegisteredError: the coordinator was started anew.
            LotteryFLError: it did not arrive.
        """
        return self._once(lambda: self._stub.Heartbeat(request, timeout=min(CALL_SECONDS, interval)))

    def fetch_assignment(
        self,
        worker_id: WorkerId,
        payload_limit: int,
        place: Place = new_tensor,
        check: Callable[[pb.Assignment], None] = lambda _: None,
        held: Callable[[], Collection[str]] = tuple,
        wait_seconds: float = POLL_SECONDS,
    ) -> tuple[pb.Assignment, dict[str, Tensor]] | pb.NoWork:
        """Wait for work, and fetch its payload's entries.

        Args:
            worker_id: of this worker.
            payload_limit: most bytes that are taken.
            place: gives the tensor to receive an entry into.
            check: is asked before anything of an assignment is received, and may refuse it by an exception, which
                passes through.
            held: gives the ids of the assignments that are here already.
            wait_seconds: for how long to wait at most.

        Raises:
            NotRegisteredError: the coordinator was started anew.
        """

        download = self._assignment

        def fetch() -> tuple[pb.Assignment, dict[str, Tensor]] | pb.NoWork:
            request = pb.FetchAssignmentRequest(
                worker_id=worker_id,
                wait_seconds=wait_seconds,
                assignment_id=download.what,
                offset=download.received,
                held=held(),
            )
            stream = self._fetch_assignment(request)
            watch = IdleWatch(POLL_SECONDS + STREAM_IDLE_SECONDS)
            with self._under_way.one(stream), watch.guarding(stream):
                parts = watch.over(stream)
                first = next(parts, pb.AssignmentPart())
                if first.WhichOneof("part") == "none":
                    return first.none
                assignment = first.assignment
                check(assignment)
                tracing.join(_sent_with(stream))
                what, header = assignment.assignment_id, assignment.payload
                with self._stages.within("download", bytes=header.size - header.offset):
                    return assignment, download.take(
                        what, header, parts, lambda size: TensorReceiver(size, payload_limit, what, place)
                    )

        return self._retried(fetch)

    def fetch_blob(self, digest: Digest, limit: int, worker_id: WorkerId, assignment_id: str = "") -> memoryview:
        """Fetch content by its digest, and check that it has it.

        Args:
            digest: SHA-256, hexadecimal.
            limit: most bytes that are taken.
            worker_id: of this worker.
            assignment_id: the work it is for, if it is for one in particular.

        Raises:
            ContentGoneError: the coordinator has no such content.
            PayloadError: what came is other content.
        """

        what, download = f"content {digest[:12]}", Download[memoryview]()

        def fetch() -> memoryview:
            request = pb.FetchBlobRequest(
                digest=digest, offset=download.received, worker_id=worker_id, assignment_id=assignment_id
            )
            stream = self._fetch_blob(request)
            watch = IdleWatch(STREAM_IDLE_SECONDS)
            with self._under_way.one(stream), watch.guarding(stream):
                parts = watch.over(stream)
                header = next(parts, pb.BlobPart()).header
                with self._stages.within("download", bytes=header.size - header.offset):
                    return download.take(what, header, parts, lambda size: MemoryReceiver(size, limit, what))

        content = self._retried(fetch, missing=ContentGoneError)
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise PayloadError(f"{what}: what the coordinator sent has the digest {found[:12]}")
        return content

    def submit(
        self, result: pb.Result, payload: Payload, is_lost: Callable[[], bool] = lambda: False
    ) -> pb.SubmitReply:
        """Send a result; a new stream for every try, from where the coordinator has lost the one before.

        Args:
            result: the header.
            payload: what comes after it.
            is_lost: tells whether nobody wants it any more, so that it is not tried again.
        """
        tried = False

        def send() -> pb.SubmitReply:
            nonlocal tried
            result.payload.size = payload.size
            result.payload.offset = self._already_sent(result) if tried else 0
            tried = True
            watch = IdleWatch(STREAM_IDLE_SECONDS)
            parts = watch.over(frames(pb.ResultPart(result=result), payload, result.payload.offset))
            with self._stages.within("upload", bytes=payload.size - result.payload.offset):
                call = self._submit_result.future(parts, metadata=tracing.to_send(tracing.here()))
                with self._under_way.one(call), watch.guarding(call):
                    reply: pb.SubmitReply = call.result()
            fault("ack-received")
            return reply

        return self._retried(send, is_lost=is_lost)

    def hand_back(self, result: pb.Result) -> None:
        """Send a failure, once: if it does not arrive, the lease expires by itself.

        Raises:
            LotteryFLError: it did not arrive.
        """
        self._once(lambda: self._stub.SubmitResult(iter((pb.ResultPart(result=result),)), timeout=CALL_SECONDS))

    def leave(self, request: pb.LeaveRequest) -> None:
        """Say goodbye before the run has ended, once.

        Raises:
            LotteryFLError: it did not arrive.
        """
        self._once(lambda: self._stub.Leave(request, timeout=GOODBYE_SECONDS))

    def _already_sent(self, result: pb.Result) -> int:
        request = pb.FindUploadRequest(worker_id=result.worker_id, assignment_id=result.assignment_id)
        reply: pb.FindUploadReply = self._stub.FindUpload(request, timeout=CALL_SECONDS)
        return reply.received

    def _once(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except grpc.RpcError as error:
            self._open_if_renewed()
            raise self._explained(error) from error

    def _retried(
        self,
        call: Callable[[], T],
        missing: type[LotteryFLError] = NotRegisteredError,
        is_lost: Callable[[], bool] = lambda: False,
    ) -> T:
        down_since, under_way = 0.0, self._under_way

        def attempt() -> T:
            under_way.raise_if_cancelled()
            try:
                return call()
            except grpc.RpcError as error:
                raise_if_refused(error, self._address, self._security)
                self._open_if_renewed()
                raise

        def out_of_patience(state: RetryCallState) -> bool:
            nonlocal down_since
            failed_at = state.outcome_timestamp or 0.0
            if state.attempt_number == 1:
                down_since = failed_at
            return failed_at - down_since >= self._patience

        def warn(state: RetryCallState) -> None:
            error = state.outcome and state.outcome.exception()
            if error and state.attempt_number == 1:
                _log.warning("%s; trying again for %g s", self._explained(error), self._patience)

        retrying = Retrying(
            retry=retry_if_exception(lambda error: _is_transient(error) and not (under_way.is_cancelled or is_lost())),
            wait=_pause,
            stop=out_of_patience,
            sleep=under_way.sleep,
            before_sleep=warn,
            reraise=True,
        )
        try:
            return retrying(attempt)
        except (grpc.RpcError, grpc.FutureCancelledError, CannotResumeError, LostError) as error:
            raise self._explained(error, missing) from error

    def _explained(self, error: BaseException, missing: type[LotteryFLError] = NotRegisteredError) -> LotteryFLError:
        """Return the error as a sentence; of the type `missing` where the coordinator does not know something."""
        if not isinstance(error, grpc.RpcError):
            return LotteryFLError(f"coordinator {self._address}: a stream stood still for too long")
        kind = missing if error.code() is grpc.StatusCode.NOT_FOUND else LotteryFLError
        return kind(explain(error, self._address))


def _method(name: str) -> str:
    return f"/{_SERVICE}/{name}"


def _sent_with(stream: Any) -> tracing.Parent | None:
    """Return the span that a stream's work is part of, as its sender says; it has sent its first message."""
    return tracing.sent(stream.initial_metadata()) if tracing.is_on() else None


def _pause(state: RetryCallState) -> float:
    """Return for how long to wait: drawn from no generator that the work under way in another thread may draw from."""
    return _JITTER.uniform(0, min(5.0, 0.1 * 2.0 ** min(state.attempt_number, 10)))


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, grpc.FutureCancelledError | CannotResumeError | LostError):
        return True  # given up by the stream watch; asked for from the start next time; or a test lets it fail
    return isinstance(error, grpc.RpcError) and error.code() in _TRANSIENT
