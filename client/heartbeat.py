"""The worker's pulse: a thread of its own that tells progress and load, and learns of lost leases."""

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from lotteryfl.client.connection import Connection, NotRegisteredError
from lotteryfl.client.leases import Leases
from lotteryfl.client.load import Load
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.names import WorkerId
from lotteryfl.common.telemetry.about import thread
from lotteryfl.protos import lotteryfl_pb2 as pb

_log = logging.getLogger("lotteryfl.worker")


class Heartbeat:
    """Renews all that its worker has in hand, every third of a lease time."""

    def __init__(
        self,
        connection: Connection,
        worker_id: WorkerId,
        leases: Leases,
        lease_seconds: float,
        register: Callable[[], object],
        load: Load,
    ) -> None:
        """Prepare the thread; the block of the context manager is its life.

        Args:
            connection: to the coordinator.
            worker_id: as it was registered.
            leases: what it has in hand.
            lease_seconds: time after which a silent worker loses its work.
            register: registers the same worker again, after a restart of the coordinator.
            load: what it takes of its machine.
        """
        self._connection = connection
        self._worker_id = worker_id
        self._leases = leases
        self._interval = lease_seconds / 3
        self._register = register
        self._load = load
        self._stops = False
        self._due = threading.Event()
        self._thread = thread(self._beat, "heartbeat")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stops = True
        self._due.set()

    def beat(self) -> None:
        """Ask at once what is still this worker's."""
        self._due.set()

    def _beat(self) -> None:
        while not self._stops:
            self._due.wait(self._interval)
            self._due.clear()
            if self._stops:
                return
            try:
                self._tell()
            except LotteryFLError as error:
                _log.debug("heartbeat: %s", error)  # the next one tries again; a lease outlives two misses

    def _tell(self) -> None:
        progress = [lease.progress() for lease in self._leases.all()]
        request = pb.HeartbeatRequest(worker_id=self._worker_id, progress=progress, load=self._load.told())
        try:
            reply = self._connection.heartbeat(request, self._interval)
        except NotRegisteredError:
            self._register()
            return
        self._leases.lose(reply.cancel)
