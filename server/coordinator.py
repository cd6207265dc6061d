"""The rounds of one run: who does what, what counts, when a round is over. Knows no transport.

One thread at a time calls it (`server.service` gives it a thread of its own); what takes long, such as reading
payloads and aggregation, is done elsewhere on what it hands out. Everything it answers for is on disk before
the answer.
"""

import math
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import islice

from common.errors import LotteryFLError
from common.faults import fault
from common.randomness import derive_seed
from protos import lotteryfl_pb2 as pb
from server.broadcast import TransferSizes
from server.database import AssignmentRow, Received, ResultRow
from server.leases import AssignmentId, Lease, LeaseTable
from server.rounds import Decision, RoundState, Verdict, decide
from server.rundir import NewModel, RunDirectory, model_file
from server.strategies import create_strategy
from server.traffic import Traffic
from server.workers import Worker, WorkerRegistry, name_of


class Step(Enum):
    """What a run needs next."""

    WAIT = "wait for results"
    COMMIT = "aggregate and commit the round"
    ENDED = "nothing: the run has finished or failed"


@dataclass(frozen=True)
class Work:
    """A leased assignment and where its tensors are."""

    assignment: pb.Assignment
    source: str
    """File in the run directory."""
    is_own_result: bool
    """The file is the client's own last result, under its mask already; otherwise a dense model."""


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
            ExperimentError: the experiment names an unknown strategy.
        """
        self._run = run
        self._database = run.database
        self._clock = clock
        self.experiment = run.experiment
        self.strategy = create_strategy(run.experiment)
        self._workers = WorkerRegistry()
        self._homes: dict[int, str] = {}  # by client, the worker that served it last: it has mask and data at hand
        self._closed: Decision | None = None
        self._traffic = Traffic(run.database)
        self._broadcasts = broadcasts and run.experiment.round.broadcasts
        self._sizes = TransferSizes.of(run.wire)
        self.state = self._database.get("state")
        self.reason = self._database.get("reason")
        if self.state == "failed":
            self._reopen_failed()
        run.remove_leftovers()
        self._take_up_round()

    # -- rounds

    @property
    def is_final(self) -> bool:
        """Whether the open round is the last: after the training rounds, every client is measured once."""
        return self.round > self.experiment.rounds

    @property
    def model_round(self) -> int:
        """The round whose aggregation made the current global model; 0: it is θ_0."""
        return self._run.model_round

    def advance(self) -> Step:
        """Take back expired leases and decide on the open round.

        With the answer COMMIT the round is closed: a result that came now would miss the aggregation.
        """
        if self.state != "running":
            return Step.ENDED
        if self._closed is not None:
            return Step.COMMIT
        for lease in self._leases.expired(self._clock()):
            self._take_back(lease, f"{name_of(lease.worker)} was silent for {self.experiment.round.lease:g} s")
        decision = self._decide()
        if decision.verdict is Verdict.FAIL:
            self.fail(f"round {self.round}: {decision.reason}{self._why_given_up()}")
            return Step.ENDED
        if decision.verdict is Verdict.WAIT:
            return Step.WAIT
        self._closed = decision
        return Step.COMMIT

    def seconds_until_check(self) -> float:
        """Return for how long nothing changes by the clock alone."""
        expiries = (lease.expires for lease in self._leases.leases())
        return max(0.0, min(self._opened + self.experiment.round.deadline, *expiries, float("inf")) - self._clock())

    def results_to_aggregate(self) -> list[ResultRow]:
        """Return the open round's results that change the global model, in client order."""
        if self.is_final or not self.strategy.aggregates:
            return []
        return self._database.results(self.round)

    def commit(self, model: NewModel | None) -> None:
        """Commit the closed round, in one transaction, and open the next.

        Args:
            model: the new global model; None where it stays as it was.

        Raises:
            ValueError: `advance` has not said COMMIT.
        """
        if self._closed is None:
            raise ValueError(f"round {self.round} is still open: expected advance() to say COMMIT before")
        needed_before = self._run.files_in_use()
        fault("round-committing")
        with self._database.transaction():
            self._traffic.flush()
            self._database.commit_round(self.round, self._clock() - self._opened, self._closed.reason)
            if model is not None:
                self._database.put("model_sha256", model.sha256)
                self._database.put("model_digest", model.digest)
                self._database.put("model_round", str(self.round))
            if self.is_final:
                self._database.put("state", "finished")
                self._database.put("reason", "")
        fault("round-committed")
        self.state, self.reason = self._database.get("state"), self._database.get("reason")
        self._run.remove(needed_before - self._run.files_in_use())
        self._take_up_round()

    def fail(self, reason: str) -> None:
        """End the run without a result, unless it has ended; it can be taken up again from its directory."""
        if self.state != "running":
            return
        self.state, self.reason = "failed", reason
        with self._database.transaction():
            self._traffic.flush()
            self._database.put("state", "failed")
            self._database.put("reason", reason)

    def raise_if_failed(self) -> None:
        """Raise LotteryFLError with the reason, if the run has failed."""
        if self.state == "failed":
            raise LotteryFLError(f"the run failed: {self.reason}")

    def _decide(self) -> Decision:
        state = RoundState(
            assigned=len(self._assignments),
            results=self._results,
            unsettled=len(self._leases),
            age=self._clock() - self._opened,
        )
        limits = self.experiment.round
        return decide(state, min_results=limits.min_results, deadline=limits.deadline)

    def _why_given_up(self) -> str:
        reasons = sorted({row.reason for row in self._database.assignments(self.round) if row.reason})
        return "".join(f"; {reason}" for reason in reasons)

    def _take_up_round(self) -> None:
        self.round = self._database.committed_rounds() + 1
        self._opened = self._clock()
        self._closed = None
        self._leases = LeaseTable(self.round, self.experiment.round.lease)
        self._assignments: dict[int, AssignmentRow] = {}
        self._results = 0
        if self.state == "finished":
            return
        if not self._database.is_open(self.round):
            with self._database.transaction():
                self._database.open_round(self.round, self._new_assignments())
        for row in self._database.assignments(self.round):
            self._assignments[row.client] = row
            if row.state == "waiting":
                self._leases.add(row.client, row.attempt)
            elif row.state == "leased":
                id_ = AssignmentId(row.round, row.client, row.attempt)
                self._leases.restore(id_, row.worker, self._opened)
            elif row.state == "done":
                self._results += 1

    def _new_assignments(self) -> Iterator[AssignmentRow]:
        sampled = range(self.experiment.clients) if self.is_final else self.strategy.sample(self.round)
        plan = self.strategy.final_plan() if self.is_final else self.strategy.plan()
        clients = self._database.clients()
        shared = model_file(self.model_round)
        for client in sampled:
            row = clients[client]
            source = shared if self.strategy.aggregates else row.ticket or shared
            yield AssignmentRow(self.round, client, plan, row.mask, source, row.density)

    def _reopen_failed(self) -> None:
        self.state, self.reason = "running", ""
        with self._database.transaction():
            self._database.put("state", "running")
            self._database.put("reason", "")
            self._database.give_dropped_another_chance()

    # -- workers

    def register(self, name: str, incarnation: str, clients: Collection[int] | None) -> str:
        """Add a worker; a new incarnation of a name replaces the old one, whose leases go back at once.

        Raises:
            ReplacedError: it is such an old one itself.
        """
        worker_id = self._workers.register(name, incarnation, clients, self._clock())
        for lease in self._leases.leases():
            if name_of(lease.worker) == name and lease.worker != worker_id:
                self._take_back(lease, f"{name} was started anew")
        return worker_id

    def lease(self, worker_id: str) -> Work | None:
        """Give the worker an assignment, on disk before it is handed out; None: there is none for it now.

        Raises:
            UnknownWorkerError: it must register first.
        """
        worker = self._workers.seen(worker_id, self._clock())
        if not self._takes_results:
            return None
        lease = self._leases.grant(worker_id, worker.clients, self._clock(), self._homes)
        if lease is None:
            return None
        row = self._assignments[lease.id.client]
        base = self._base(worker, row)
        fault("lease-writing")
        with self._database.transaction():
            self._database.lease_assignment(lease.id, worker_id, broadcast=bool(base))
        fault("lease-written")
        assignment = pb.Assignment(
            assignment_id=str(lease.id),
            round=row.round,
            client=row.client,
            seed=derive_seed(self.experiment.seed, "training", row.round, row.client),
            plan=row.plan,
            mask_digest=row.mask,
            base_digest=base,
        )
        return Work(assignment, row.source, is_own_result=row.source.startswith("results/"))

    def _base(self, worker: Worker, row: AssignmentRow) -> str:
        """Return the digest of the whole model if the worker is to start from that; '': it gets its client's values."""
        digest = self._run.model_digest
        if not self._broadcasts or row.source != model_file(self.model_round):
            return ""
        if digest not in (worker.model, self._run.initial_digest):  # it holds neither
            rows = (self._assignments[client] for client in self._leases.waiting(worker.clients))
            share = math.ceil(len(self._leases) / max(1, len(self.alive_workers())))
            if not self._sizes.broadcast_pays(row.density for row in (row, *islice(rows, share - 1))):
                return ""
            worker.model = digest
        return digest

    def heartbeat(self, worker_id: str, progress: Collection[pb.AssignmentProgress]) -> list[str]:
        """Renew the leases that the worker works under; return the assignments it has lost.

        Raises:
            UnknownWorkerError: it must register first.
        """
        now = self._clock()
        worker = self._workers.seen(worker_id, now)
        self._workers.report(worker, progress)
        lost = []
        for item in progress:
            id_ = AssignmentId.parse(item.assignment_id)
            if self.state != "running" or id_ is None or not self._leases.renew(id_, worker_id, now):
                lost.append(item.assignment_id)
        return lost

    def release(self, worker_id: str, assignment_id: str, reason: str) -> None:
        """Put an assignment back that its worker cannot do, or whose result was refused."""
        lease = self._current(worker_id, assignment_id)
        if lease is not None:
            self._take_back(lease, reason)

    def leave(self, worker_id: str, reason: str) -> None:
        """Take back what a worker holds that says goodbye."""
        for lease in self._leases.leases():
            if lease.worker == worker_id:
                self._take_back(lease, reason)

    def take_back_all(self, reason: str) -> None:
        """Take back every lease, of workers that are known to be gone."""
        for lease in self._leases.leases():
            self._take_back(lease, reason)

    def alive_workers(self) -> set[str]:
        """Return the ids of the workers heard of within a lease time."""
        return {w.worker_id for w in self._workers.alive(self._clock() - self.experiment.round.lease)}

    def _take_back(self, lease: Lease, reason: str) -> None:
        limits, first = self.experiment.round, self._assignments[lease.id.client].attempt
        dropped = lease.id.attempt - first >= limits.max_attempts
        with self._database.transaction():
            self._database.set_assignment(lease.id, "dropped" if dropped else "waiting", reason=reason)
        if dropped:
            self._leases.settle(lease.id.client)
        else:
            self._leases.take_back(lease.id.client)

    # -- results

    def verdict_before_body(self, worker_id: str, assignment_id: str) -> pb.SubmitReply | None:
        """Answer a submission whose tensors need not be read: a duplicate, or stale. None: it is wanted."""
        if self._current(worker_id, assignment_id) is not None:
            return None
        id_ = AssignmentId.parse(assignment_id)
        if id_ is not None and self._database.is_done(id_, worker_id):
            return pb.SubmitReply(verdict=pb.SubmitReply.DUPLICATE, reason="already counted")
        return pb.SubmitReply(verdict=pb.SubmitReply.STALE, reason="its lease or its round is over")

    def mask_before(self, assignment_id: str) -> str:
        """Return the digest of the mask that the client of a current assignment started from."""
        id_ = AssignmentId.parse(assignment_id)
        return self._assignments[id_.client].mask if id_ else ""

    def record(self, worker_id: str, received: Received) -> pb.SubmitReply:
        """Count a checked result, once; on disk before the answer."""
        early = self.verdict_before_body(worker_id, received.assignment_id)
        lease = self._current(worker_id, received.assignment_id)
        if early is not None or lease is None:
            return early or pb.SubmitReply(verdict=pb.SubmitReply.STALE)
        fault("result-recording")
        with self._database.transaction():
            self._traffic.flush()
            self._database.add_result(lease.id, received)
            self._database.set_assignment(lease.id, "done", worker=worker_id)
        self._leases.settle(lease.id.client)
        self._homes[lease.id.client] = worker_id
        self._results += 1
        fault("result-recorded")
        return pb.SubmitReply(verdict=pb.SubmitReply.ACCEPTED)

    def count_bytes(self, assignment_id: str, *, down: int = 0, up: int = 0) -> None:
        """Count traffic of an assignment, or of none in particular."""
        self._traffic.count(AssignmentId.parse(assignment_id), down=down, up=up)

    def _current(self, worker_id: str, assignment_id: str) -> Lease | None:
        id_ = AssignmentId.parse(assignment_id)
        return self._leases.held(id_, worker_id) if id_ and self._takes_results else None

    @property
    def _takes_results(self) -> bool:
        return self.state == "running" and self._closed is None

    # -- observers

    def status(self) -> pb.RunStatus:
        """Return where the run stands."""
        summaries = self._database.round_summaries(self.round - 1)
        return pb.RunStatus(
            state=pb.RunStatus.State.Value(self.state.upper()),
            reason=self.reason,
            strategy=self.strategy.name,
            round=min(self.round - 1, self.experiment.rounds),
            rounds=self.experiment.rounds,
            clients=self.experiment.clients,
            assignments=len(self._assignments),
            results=self._results,
            in_flight=[self._describe(lease) for lease in self._leases.leases()],
            workers=len(self.alive_workers()),
            bytes_down=self._traffic.down,
            bytes_up=self._traffic.up,
            last=summaries[-1] if summaries else None,
        )

    def _describe(self, lease: Lease) -> str:
        text = f"client {lease.id.client} on {name_of(lease.worker)}"
        progress = self._workers.progress(lease.worker, str(lease.id))
        return f"{text}: epoch {progress.epoch}, loss {progress.loss:.3f}" if progress else text
