"""Gives work out: which assignment a worker gets, what it starts from, and from whom it is taken back."""

from collections.abc import Callable, Collection
from dataclasses import replace

from lotteryfl.common.names import WorkerId
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.broadcast import Broadcasts, next_in_line
from lotteryfl.server.rounds.ledger import Ledger
from lotteryfl.server.rounds.work import Work
from lotteryfl.server.rounds.workers import Worker, WorkerRegistry
from lotteryfl.server.store.assignments import Standing
from lotteryfl.server.store.rundir import RunDirectory


class Giving:
    """Gives the work of one run out."""

    homes: dict[int, WorkerId]
    """By client, the worker that served it last: it has mask and data at hand."""

    def __init__(
        self,
        run: RunDirectory,
        ledger: Ledger,
        workers: WorkerRegistry,
        clock: Callable[[], float],
        *,
        broadcasts: bool,
    ) -> None:
        """Begin with clients that are at home nowhere.

        Args:
            run: the open run directory.
            ledger: its state, which leases are written down in.
            workers: that have registered.
            clock: seconds, from any start.
            broadcasts: let workers start from the whole model where that takes fewer bytes, unless the experiment
                says otherwise.
        """
        self.homes = {}
        self._run = run
        self._ledger = ledger
        self._workers = workers
        self._clock = clock
        self._broadcasts = Broadcasts(run, allowed=broadcasts)

    def give(self, worker: Worker, has: Collection[str], *, travels: bool, paused: bool) -> Work | None:
        """Give a worker an assignment, on disk before it is handed out; None: there is none for it now.

        Args:
            worker: who asks.
            has: ids of the assignments that are with it, for another beside them.
            travels: the assignment is not with its worker before that is said.
            paused: it gets no other than it holds.
        """
        worker.asks = True
        table, rows = self._ledger.round.assignments, self._ledger.rows
        since = self._clock() - self._run.experiment.round.lease
        peers = self._workers.asking(since) if table.has_failures else {}  # else not to look at all workers
        alive = self._workers.count_alive(since)
        granted = table.grant(worker.worker_id, worker.clients, self.homes, peers, has, workers=alive, paused=paused)
        if granted is None:
            return None
        row, leased = rows[granted.id.client], table.with_its_stack(granted, worker.clients, peers)
        base = self._broadcasts.base(worker, row, next_in_line(table, rows, worker, row, alive))
        for withdrawn in self._ledger.lease(leased, broadcast=bool(base)):
            if known := self._workers.known(withdrawn.worker):
                known.withdrawn.append(str(withdrawn.id))
        if travels:
            for each in leased:
                table.send(each.id)
        return Work.of(self._run, replace(row, attempt=granted.id.attempt), base, self._place(granted, has))

    def _place(self, granted: Standing, has: Collection[str]) -> pb.Stack | None:
        """Return an assignment's place in its stack; None: it is in none."""
        place = self._ledger.places.get(granted.id.client)
        if place is None:
            return None
        more = self._ledger.round.assignments.more(granted, has)
        return pb.Stack(rows=place.rows, row=place.row, first=place.first, more=more)
