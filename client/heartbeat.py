"""The worker's pulse: a thread of its own that tells progress and learns of lost leases."""

import contextlib
import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from torch import Tensor

from lotteryfl.client.connection import Connection, NotRegisteredError
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.names import WorkerId
from lotteryfl.protos import lotteryfl_pb2 as pb

_log = logging.getLogger("lotteryfl.worker")


class LeaseLostError(BaseException):
    """The assignment under work is not this worker's any more: no error, so that no code of a user's holds it up."""


class Heartbeat:
    """Renews the lease on the assignment under work, every third of a lease time."""

    def __init__(
        self, connection: Connection, worker_id: WorkerId, lease_seconds: float, register: Callable[[], object]
    ) -> None:
        """Prepare the thread; the block of the context manager is its life.

        Args:
            connection: to the coordinator.
            worker_id: as it was registered.
            lease_seconds: time after which a silent worker loses its work.
            register: registers the same worker again, after a restart of the coordinator.
        """
        self._connection = connection
        self._worker_id = worker_id
        self._interval = lease_seconds / 3
        self._register = register
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._assignment_id = ""
        self._training: tuple[int, int, Tensor] | None = None
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def begin(self, assignment_id: str) -> None:
        """Name the assignment that is under work from now on."""
        self._lost.clear()
        self._training = None
        self._assignment_id = assignment_id

    def end(self) -> None:
        """Say that nothing is under work."""
        self._assignment_id = ""

    def on_step(self, epoch: int, step: int, loss: Tensor) -> None:
        """Note progress.

        Raises:
            LeaseLostError: the work is in vain.
        """
        if self._lost.is_set():
            raise LeaseLostError
        self._training = (epoch, step, loss)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()

    def _beat(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                self._tell()
            except LotteryFLError as error:
                _log.debug("heartbeat: %s", error)  # the next one tries again; a lease outlives two misses

    def _tell(self) -> None:
        assignment_id = self._assignment_id
        request = pb.HeartbeatRequest(worker_id=self._worker_id)
        if assignment_id:
            request.progress.append(self._progress(assignment_id))
        try:
            reply = self._connection.heartbeat(request, self._interval)
        except NotRegisteredError:
            self._register()
            return
        if assignment_id in reply.cancel and assignment_id == self._assignment_id:
            self._lost.set()

    def _progress(self, assignment_id: str) -> pb.AssignmentProgress:
        if self._training is None:
            return pb.AssignmentProgress(assignment_id=assignment_id)
        epoch, step, loss = self._training
        progress = pb.AssignmentProgress(assignment_id=assignment_id, epoch=epoch, step=step)
        # Read here and not at every step: on an accelerator it waits for the step to be done.
        with contextlib.suppress(RuntimeError):  # a step that failed there: the work itself says so
            progress.loss = float(loss)
        return progress
