"""What comes from the coordinator: the next assignment, made ready while the one before it is worked on."""

from collections.abc import Callable
from contextvars import copy_context
from types import TracebackType
from typing import Self

from lotteryfl.client.blobs import Content
from lotteryfl.client.connection import Connection, ContentGoneError, NotRegisteredError
from lotteryfl.client.leases import Lease, Leases
from lotteryfl.client.returning import Returning
from lotteryfl.client.work.assignment import AssignmentRunner
from lotteryfl.common.errors import LotteryFLError, PayloadError
from lotteryfl.common.faults import fault
from lotteryfl.common.memory.shortage import is_out_of_memory
from lotteryfl.common.names import WorkerId
from lotteryfl.common.security.channel import GOODBYE_SECONDS, POLL_SECONDS
from lotteryfl.common.telemetry.about import bind, named_in, thread
from lotteryfl.protos import lotteryfl_pb2 as pb


class DrainedError(LotteryFLError):
    """The coordinator ends, and its run does not: the worker leaves, as it is told. The message says why."""


class Fetching:
    """Fetches one assignment after the other, as long as there may be more in hand."""

    def __init__(
        self,
        connection: Connection,
        worker_id: WorkerId,
        leases: Leases,
        content: Content,
        runner: AssignmentRunner,
        returning: Returning,
        check: Callable[[pb.Assignment], None],
        register: Callable[[], object],
        on_short: Callable[[str, Exception], object],
    ) -> None:
        """Prepare the thread; the block of the context manager is its life.

        Args:
            connection: to the coordinator.
            worker_id: as it was registered.
            leases: where what has come is put.
            content: fetches masks and models.
            runner: puts what has come into models.
            returning: takes back what cannot be made ready.
            check: refuses an assignment by an exception, which ends the worker.
            register: registers the same worker again, after a restart of the coordinator.
            on_short: is told what arrived when memory ran out, and the error; '': nothing yet, beside what is in hand.
        """
        self._connection = connection
        self._worker_id = worker_id
        self._leases = leases
        self._content = content
        self._runner = runner
        self._returning = returning
        self._check = check
        self._register = register
        self._on_short = on_short
        self._arriving = ""
        self._more = False
        self._thread = thread(self._fetch_all, "fetching")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leases.no_more()
        self._connection.hang_up()
        self._thread.join(GOODBYE_SECONDS)  # nothing comes after the goodbye

    def _fetch_all(self) -> None:
        try:
            while self._leases.wait_for_room() and copy_context().run(self._fetch):
                pass
        except BaseException as error:
            self._leases.no_more(error)
        else:
            self._leases.no_more()

    def _fetch(self) -> bool:
        """Fetch one, if there is the memory for it, in a context of its own; False: the run has finished."""
        self._arriving, self._more = "", False
        try:
            return self._fetch_one()
        except Exception as error:
            if not is_out_of_memory(error) or not (self._arriving or self._leases.all()):
                raise
            self._on_short(self._arriving, error)
            if not self._more:
                self._leases.gathered()
            return True

    def _fetch_one(self) -> bool:
        workplace = self._runner.new_workplace()
        try:
            fetched = self._connection.fetch_assignment(
                self._worker_id,
                self._content.limit,
                workplace.place,
                self._check_arriving,
                lambda: [lease.id for lease in self._leases.all()],
                POLL_SECONDS if self._leases.gathering is None else 0.0,  # what is there of a stack waits for the rest
            )
        except NotRegisteredError:
            self._register()
            return True
        if isinstance(fetched, pb.NoWork):
            self._leases.gathered()
            if fetched.finished or fetched.failed:  # what is in hand is in vain
                self._leases.lose([lease.id for lease in self._leases.all()])
            if fetched.failed:
                raise LotteryFLError(f"the run failed: {fetched.reason}")
            if fetched.finished and fetched.reason:
                raise DrainedError(fetched.reason)
            return not fetched.finished
        assignment, entries = fetched
        fault("assignment-received")
        try:
            masks = self._content.masks(assignment)
            base = self._content.base(assignment) if assignment.base_digest else None
            ready = self._runner.load(workplace, assignment, entries, masks, base)
        except ContentGoneError as error:
            self._returning.gone(assignment.assignment_id, error)
        except PayloadError as error:
            self._returning.failure(assignment.assignment_id, error)
        else:
            self._leases.add(Lease(assignment, ready), more=self._more)
            return True
        if not self._more:
            self._leases.gathered()
        return True

    def _check_arriving(self, assignment: pb.Assignment) -> None:
        bind(**named_in(assignment.assignment_id))
        self._check(assignment)
        self._arriving, self._more = assignment.assignment_id, assignment.stack.more > 0
