"""The rounds of one run: who does what, what counts, when a round is over. Knows no transport.

Asks `openround` and `leases` what is to be done, and has `ledger` write it down before it answers. One thread at a time
calls it (`server.rpc.served` gives it a thread of its own); what takes long, such as reading payloads and aggregation,
is done elsewhere on what it hands out: `resultcheck.examine` and `ClosedRound.conclude`.
"""

import sqlite3
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lotteryfl.common.errors import LotteryFLError, PayloadError
from lotteryfl.common.names import FileName, WorkerId
from lotteryfl.common.security.identity import name_of, owner, owner_of
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.privacy.promise import check_privacy
from lotteryfl.server.rounds.conclusion import ClosedRound, Conclusion
from lotteryfl.server.rounds.giving import Giving
from lotteryfl.server.rounds.leases import LeaseTable
from lotteryfl.server.rounds.ledger import Ledger
from lotteryfl.server.rounds.machine import UNKNOWN, Machine
from lotteryfl.server.rounds.openround import Decision, Verdict
from lotteryfl.server.rounds.resultcheck import Arrival, examine
from lotteryfl.server.rounds.told.attendance import Attendance
from lotteryfl.server.rounds.told.fleet import fleet_of
from lotteryfl.server.rounds.told.status import status_of_open
from lotteryfl.server.rounds.told.tally import Tally
from lotteryfl.server.rounds.work import Step, Work
from lotteryfl.server.rounds.workers import AsideError, WorkerRegistry
from lotteryfl.server.store.assignments import AssignmentId, Standing
from lotteryfl.server.store.rundb.clients import client_page
from lotteryfl.server.store.rundb.rows import AssignmentRow, Received
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.strategies import create_strategy
from lotteryfl.server.strategies.support.tensors import check_same_tensors


class Coordinator:
    """The state machine of a run over its directory."""

    def __init__(
        self, run: RunDirectory, clock: Callable[[], float] = time.monotonic, *, broadcasts: bool = True
    ) -> None:
        """Take up a run where its directory says it stands.

        Args:
            run: the open run directory.
            clock: seconds, from any start.
            broadcasts: let workers start from the whole model where that takes fewer bytes, unless the experiment
                says otherwise.

        Raises:
            ExperimentError: the strategy is unknown, cannot keep what `[privacy]` promises, or has other tensors of its
                own than when the run was set up.
        """
        self._run = run
        self._clock = clock
        self.experiment = run.experiment
        self.strategy = create_strategy(run.experiment, run.score)
        check_privacy(self.strategy, run.table.model)
        check_same_tensors(self.strategy, run.model_table)
        self._workers = WorkerRegistry(holds=run.experiment.round.leases * max(1, run.experiment.engine.stacked))
        self._ledger = Ledger(run, self.strategy, clock, self._workers)
        self.traces = self._ledger.traces
        self.steering = self._ledger.steering
        """What operators have said of the run."""
        self._closed: Decision | None = None
        self._attendance = Attendance(
            self._workers, clock, self._ledger.events, lease_seconds=run.experiment.round.lease
        )
        self._giving = Giving(run, self._ledger, self._workers, clock, broadcasts=broadcasts)

    # -- rounds

    @property
    def state(self) -> str:
        """One of running, finished, failed."""
        return self._ledger.state

    @property
    def is_over(self) -> bool:
        """Whether nothing more is done here: the run has ended, or this process is drained."""
        return self.state != "running" or self.steering.is_drained

    @property
    def reason(self) -> str:
        """Why the run is paused, failed, tries its open round again, or trains no more."""
        return self._ledger.reason

    @property
    def round(self) -> int:
        """The open round, from 1."""
        return self._ledger.round.number

    @property
    def is_final(self) -> bool:
        """Whether the open round is the last: after the training rounds, every client is measured once."""
        return self._ledger.is_final

    @property
    def model_round(self) -> int:
        """The round whose aggregation made the current global model; 0: it is θ_0."""
        return self._run.model_round

    def advance(self) -> Step:
        """Take back expired leases and decide on the open round.

        With the answer COMMIT the round is closed: a result that came now would miss the aggregation.
        """
        if self.is_over:
            return Step.ENDED
        if self._closed is not None:
            return Step.COMMIT
        now, round_ = self._clock(), self._ledger.round
        expired = round_.expired(now, self._workers.heard, paused=self.steering.is_paused)
        self._ledger.take_back(expired, "expired")
        self._attendance.look(round_)
        self._ledger.events.write(now)
        if not self._ledger.is_open:
            self.steering.note_no_round(self.state)
            if self.is_over:
                return Step.ENDED
            return Step.OFFER if self._ledger.open_if_enough() else Step.WAIT
        decision = round_.decide(now)
        if decision.verdict is Verdict.WAIT:
            return Step.OFFER if expired else Step.WAIT
        if decision.verdict is Verdict.RETRY:
            reason = f"trying again: {decision.reason}"
            self._ledger.start_over(decision.standings, retries=round_.retries + 1, reason=reason)
            return Step.OFFER
        if decision.verdict is Verdict.FAIL:
            self.fail(decision.reason)
            return Step.ENDED
        self._closed = decision
        return Step.COMMIT

    def seconds_until_check(self) -> float:
        """Return for how long nothing changes by the clock alone."""
        return self._ledger.round.seconds_until_check(self._clock())

    def closed_round(self) -> ClosedRound:
        """Return what the closed round is concluded from.

        Raises:
            ValueError: `advance` has not said COMMIT.
        """
        self._require_closed()
        return ClosedRound.of(self._run, self.strategy, self.round, is_final=self.is_final)

    def commit(self, conclusion: Conclusion) -> list[Path]:
        """Commit the closed round, in one transaction, and open the next.

        Args:
            conclusion: of `closed_round`.

        Returns:
            The files that the run does not need any more: to be removed, once others know of the next round.

        Raises:
            ValueError: `advance` has not said COMMIT.
        """
        unneeded = self._ledger.commit(self._require_closed(), conclusion)
        self._closed = None
        self.steering.note_no_round(self.state)
        return unneeded

    def look_at_disk(self) -> None:
        """Warn where the open round may find too little room; to be called when what a round has left is removed."""
        self._ledger.look_at_disk()

    def _require_closed(self) -> Decision:
        if self._closed is None:
            raise ValueError(f"round {self.round} is still open: expected advance() to say COMMIT before")
        return self._closed

    def fail(self, reason: str) -> None:
        """End the run without a result, unless it is over here; it can be taken up again from its directory."""
        if not self.is_over:
            self._ledger.fail(reason)

    def stop(self) -> None:
        """Put on record that the run is left as it is, unless it has ended: it can be taken up from its directory."""
        with suppress(OSError, sqlite3.Error):  # a disk that fails: what made it stop says so
            self._ledger.stop()

    def raise_if_failed(self) -> None:
        """Raise LotteryFLError with the reason, if the run has failed."""
        if self.state == "failed":
            raise LotteryFLError(f"the run failed: {self.reason}")

    # -- workers

    def register(
        self, name: str, incarnation: str, clients: Collection[int] | None, machine: Machine = UNKNOWN
    ) -> WorkerId:
        """Add a worker; a new incarnation of a name replaces the old one, whose leases go back at once.

        Raises:
            ReplacedError: it is such an old one itself.
            AsideError: workers of this name get no more work.
        """
        self._require_not_aside(name)
        worker_id = self._workers.register(name, incarnation, clients, self._clock(), machine)
        holders = ((lease.id.client, lease.worker) for lease in self._table.leases())
        replaced = [client for client, holder in holders if name_of(holder) == name and holder != worker_id]
        self._take_back(replaced, f"{name} was started anew", "taken back")
        self._attendance.joined(worker_id)
        return worker_id

    def lease(self, worker_id: WorkerId, has: Collection[str] = (), *, travels: bool = False) -> Work | None:
        """Give the worker an assignment, on disk before it is handed out; None: there is none for it now.

        Args:
            worker_id: who asks.
            has: ids of the assignments that are with it, for another beside them.
            travels: the assignment is not with its worker before `arrived` says so.

        Raises:
            UnknownWorkerError: it must register first.
            AsideError: it gets none any more.
        """
        self._require_not_aside(name_of(worker_id))
        worker = self._workers.seen(worker_id, self._clock())
        if not self._takes_results:
            return None
        return self._giving.give(worker, has, travels=travels, paused=self.steering.is_paused)

    def arrived(self, assignment_id: str) -> None:
        """Note that an assignment is with its worker: from now on it costs an attempt if the worker is lost."""
        if id_ := AssignmentId.parse(assignment_id):
            self._table.arrived(id_)

    def heartbeat(
        self, worker_id: WorkerId, progress: Collection[pb.AssignmentProgress], load: pb.WorkerLoad | None = None
    ) -> list[str]:
        """Renew what the worker holds, note its load; return the assignments that it works on in vain.

        Raises:
            UnknownWorkerError: it must register first.
        """
        now = self._clock()
        worker = self._workers.seen(worker_id, now)
        worker.load = load
        if self.state != "running":
            return [item.assignment_id for item in progress]
        self._table.renew(worker_id, now)
        ids = {item.assignment_id: AssignmentId.parse(item.assignment_id) for item in progress}
        held = {text for text, id_ in ids.items() if id_ is not None and self._table.held(id_, worker_id)}
        for text in held:
            self.arrived(text)
        self._workers.report(worker, (item for item in progress if item.assignment_id in held))
        return [text for text in ids if text not in held]

    def release(self, worker_id: WorkerId, assignment_id: str, reason: str) -> None:
        """Put an assignment back that its worker cannot do."""
        held = self._current(worker_id, assignment_id)
        if held is not None:
            self._ledger.take_back([self._table.taken_back(held.id.client, reason, has_begun=True)], "handed back")

    def leave(self, worker_id: WorkerId, reason: str, *, told_to_stop: bool = False) -> bool:
        """Take back what a worker holds that says goodbye; one that was told to stop has not spent an attempt.

        Returns:
            Whether the worker was known.
        """
        held = [lease.id.client for lease in self._table.leases() if lease.worker == worker_id]
        self._take_back(held, reason, "handed back", counts=not told_to_stop)
        self._attendance.left(worker_id, reason)
        return self._workers.forget(worker_id)

    def take_back_all(self, reason: str) -> None:
        """Take back every lease, of workers that are known to be gone, through no fault of the assignments."""
        self._take_back([lease.id.client for lease in self._table.leases()], reason, "taken back", counts=False)

    def _take_back(self, clients: Collection[int], reason: str, how: str, *, counts: bool = True) -> None:
        self._ledger.take_back([self._table.taken_back(client, reason, counts=counts) for client in clients], how)

    def alive_workers(self) -> set[WorkerId]:
        """Return the ids of the workers heard of within a lease time."""
        return {worker.worker_id for worker in self._workers.alive(self._clock() - self.experiment.round.lease)}

    # -- results

    def wanted(self, worker_id: WorkerId, assignment_id: str) -> AssignmentRow | pb.SubmitReply:
        """Return what the worker was told to do; or the answer to its result where that need not be read."""
        held = self._current(worker_id, assignment_id)
        if held is None:
            return self._unwanted(worker_id, assignment_id)
        self._table.arrived(held.id)
        self._table.returning(held.id)
        return replace(self._ledger.rows[held.id.client], attempt=held.id.attempt)

    def settle(self, arrival: Arrival) -> pb.SubmitReply:
        """Count a result that may count, once, or refuse it; on disk before the answer. Its files stay if it counts."""
        result, finding = arrival.result, arrival.finding
        worker_id, id_ = WorkerId(result.worker_id), result.assignment_id
        if isinstance(finding, Received):
            reply = self._record(worker_id, finding)
        elif isinstance(finding, PayloadError):
            reply = self._refuse(worker_id, id_, str(finding))
        else:  # the round has ended meanwhile, without this result
            self.release(worker_id, id_, str(finding))
            reply = self._unwanted(worker_id, id_)
        arrival.settle_files(self._run, counts=reply.verdict == pb.SubmitReply.ACCEPTED)
        if worker := self._workers.known(worker_id):
            reply.cancel.extend(worker.withdrawn)
            worker.withdrawn.clear()
        return reply

    def take(self, result: pb.Result, file: FileName) -> pb.SubmitReply:
        """Check and settle a result that is whole in a file of its own, where all is done in one thread."""
        assigned = self.wanted(WorkerId(result.worker_id), result.assignment_id)
        if isinstance(assigned, pb.SubmitReply):
            (self._run.path / file).unlink(missing_ok=True)
            return assigned
        return self.settle(examine(self._run, result, file, assigned))

    def _unwanted(self, worker_id: WorkerId, assignment_id: str) -> pb.SubmitReply:
        """Answer a result that is not wanted (any more): it is a duplicate, or stale."""
        id_ = AssignmentId.parse(assignment_id)
        if id_ is not None and self._run.database.is_done(id_, worker_id):
            self._ledger.happened["duplicate"] += 1
            return pb.SubmitReply(verdict=pb.SubmitReply.DUPLICATE, reason="already counted")
        self._ledger.happened["stale"] += 1
        return pb.SubmitReply(verdict=pb.SubmitReply.STALE, reason="its lease or its round is over")

    def _refuse(self, worker_id: WorkerId, assignment_id: str, reason: str) -> pb.SubmitReply:
        """Refuse a result, unless it came too late anyway: on disk before the answer, and its work given out again.

        A worker that has had too many results refused is put aside, and with it all that share its certificate or
        token: they get no more work, and what they hold goes back.
        """
        held = self._current(worker_id, assignment_id)
        if held is None:
            return self._unwanted(worker_id, assignment_id)
        self._ledger.refuse(held, reason)
        if why := self._ledger.refusals.why_aside(owner(worker_id)):
            for known in self._workers.of(owner(worker_id)):
                self.leave(known, why, told_to_stop=True)
        return pb.SubmitReply(verdict=pb.SubmitReply.REFUSED, reason=reason)

    def _require_not_aside(self, name: str) -> None:
        if why := self._ledger.refusals.why_aside(owner_of(name)):
            raise AsideError(why)

    def _record(self, worker_id: WorkerId, received: Received) -> pb.SubmitReply:
        held = self._current(worker_id, received.assignment_id)
        if held is None:
            return self._unwanted(worker_id, received.assignment_id)
        self._ledger.count(held, received)
        self._giving.homes[held.id.client] = worker_id
        return pb.SubmitReply(verdict=pb.SubmitReply.ACCEPTED)

    def count_bytes(self, assignment_id: str, *, down: int = 0, up: int = 0) -> None:
        """Count traffic of an assignment; or of none in particular, where its round has been over for long."""
        id_ = AssignmentId.parse(assignment_id)
        is_recent = id_ and self.round - 1 <= id_.round <= self.round and id_.client < self.experiment.clients
        self._ledger.traffic.count(id_ if is_recent else None, down=down, up=up)

    def _current(self, worker_id: WorkerId, assignment_id: str) -> Standing | None:
        id_ = AssignmentId.parse(assignment_id)
        return self._table.held(id_, worker_id) if id_ and self._takes_results else None

    @property
    def _table(self) -> LeaseTable:
        return self._ledger.round.assignments

    @property
    def _takes_results(self) -> bool:
        return self._closed is None and not self.is_over

    # -- observers

    def tally(self) -> Tally:
        """Return the run and its workers as numbers."""
        return Tally.of(self._ledger, self._workers, self._clock() - self.experiment.round.lease)

    def status(self) -> pb.RunStatus:
        """Return where the run stands."""
        return status_of_open(self._run, self._ledger, self._attendance)

    def fleet(self) -> pb.Fleet:
        """Return what every worker is at."""
        return fleet_of(self._workers, self._ledger, self._clock(), self.experiment.round.lease)

    def clients(self, first: int, most: int) -> pb.Clients:
        """Return how single clients stand, from `first` on, for whoever may look."""
        withheld = self.experiment.privacy.is_promised
        return client_page(self._run.database, first, most, self._ledger.missed, withheld=withheld)
