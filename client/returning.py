"""What goes back to the coordinator: results, by a thread of their own while the next is worked on, and failures."""

import logging
import queue
from collections.abc import Callable
from types import TracebackType
from typing import Self

from lotteryfl.client.blobs import Content
from lotteryfl.client.connection import Connection, ContentGoneError
from lotteryfl.client.counted import Counted
from lotteryfl.client.heartbeat import Heartbeat
from lotteryfl.client.leases import Lease, Leases
from lotteryfl.client.overseer import Overseer
from lotteryfl.client.work.handover import Outcome
from lotteryfl.common.errors import ClientError, LotteryFLError, PayloadError
from lotteryfl.common.names import WorkerId
from lotteryfl.common.security.channel import GOODBYE_SECONDS
from lotteryfl.common.telemetry.about import thread
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.common.text import brief
from lotteryfl.protos import lotteryfl_pb2 as pb

_log = logging.getLogger("lotteryfl.worker")


class Returning:
    """Returns what a worker has done."""

    def __init__(
        self,
        connection: Connection,
        worker_id: WorkerId,
        leases: Leases,
        content: Content,
        pulse: Heartbeat,
        told: Callable[[ClientError | PayloadError], str],
        overseer: Overseer,
        counted: Counted,
    ) -> None:
        """Prepare the thread; the block of the context manager is its life.

        Args:
            connection: to the coordinator.
            worker_id: as it was registered.
            leases: what the worker has in hand.
            content: keeps the masks of results that count.
            pulse: asks what is still the worker's, where a result was not wanted.
            told: what the coordinator may know of an error.
            overseer: hears what counts.
            counted: hears what becomes of assignments.
        """
        self._connection = connection
        self._worker_id = worker_id
        self._leases = leases
        self._content = content
        self._pulse = pulse
        self._told = told
        self._overseer = overseer
        self._counted = counted
        self._done: queue.SimpleQueue[tuple[Lease, Outcome] | None] = queue.SimpleQueue()
        self._thread = thread(self._return_all, "returning")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.put(None)
        self._thread.join(GOODBYE_SECONDS)

    def result(self, lease: Lease, outcome: Outcome) -> None:
        """Return what the work under a lease has come to, after what was done before it; the lease ends then."""
        self._done.put((lease, outcome))

    def failure(self, assignment_id: str, error: ClientError | PayloadError) -> None:
        """Hand an assignment back whose work cannot be done; this worker's log alone has all that the error says."""
        self.hand_back(assignment_id, str(error), self._told(error))

    def lost(self, assignment_id: str) -> None:
        """Drop an assignment that is not this worker's any more."""
        self._counted.ended("lost")
        _note_lost(assignment_id)

    def gone(self, assignment_id: str, error: ContentGoneError) -> None:
        """Drop an assignment whose round has ended without us: what it needs is gone."""
        self.hand_back(assignment_id, str(error), str(error))
        _note_lost(assignment_id)

    def hand_back(self, assignment_id: str, reason: str, shared: str) -> None:
        """Hand an assignment back, so that nobody waits for its lease to run out.

        Args:
            assignment_id: which.
            reason: why; the worker's log has it.
            shared: what of it the coordinator may know.
        """
        failure = pb.Failure(reason=brief(shared))
        result = pb.Result(worker_id=self._worker_id, assignment_id=assignment_id, failure=failure)
        try:
            self._connection.hand_back(result)
            self._counted.ended("handed_back")
            _log.info("%s: handed back: %s", assignment_id, reason)
        except LotteryFLError as error:
            self._counted.ended("lost")
            _log.warning("%s: could not be handed back: %s", assignment_id, error)

    def _return_all(self) -> None:
        try:
            while (done := self._done.get()) is not None:
                done[0].context.copy().run(self._return, *done)  # a copy: who gave it may still be in its context
                del done  # its model, before another comes
        except BaseException as error:
            self._leases.fail(error)

    def _return(self, lease: Lease, outcome: Outcome) -> None:
        if (reply := self._submitted(lease, outcome)) is None:
            self.lost(lease.id)
            self._leases.end(lease)
            return
        verdict = pb.SubmitReply.Verdict.Name(reply.verdict)
        self._counted.ended(verdict.lower())
        if reply.verdict in (pb.SubmitReply.ACCEPTED, pb.SubmitReply.DUPLICATE):
            self._content.remember(outcome.mask_digest, outcome.masks)
            _log.info("%s: %s; it took %s", lease.id, verdict.lower(), outcome.peak)
            self._overseer.done(outcome.examples, outcome.metrics.seconds, outcome.peak)
        else:
            _log.warning("%s: %s: %s", lease.id, verdict.lower(), reply.reason)
            self._pulse.beat()
        self._leases.lose(reply.cancel)
        self._leases.end(lease)

    def _submitted(self, lease: Lease, outcome: Outcome) -> pb.SubmitReply | None:
        """Return the answer to a result; None: it was lost before there was one."""
        if lease.is_lost:
            return None
        result = pb.Result(
            worker_id=self._worker_id,
            assignment_id=lease.id,
            examples=outcome.examples,
            metrics=outcome.metrics,
            mask_digest=outcome.mask_digest,
        )
        try:
            return self._connection.submit(result, TensorStream(outcome.entries), lambda: lease.is_lost)
        except LotteryFLError:
            if lease.is_lost:
                return None
            raise


def _note_lost(assignment_id: str) -> None:
    """Log that the work on an assignment was in vain."""
    _log.warning("%s: lease lost, its work is dropped", assignment_id)
