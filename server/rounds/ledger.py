"""The state of a run, in memory as on disk: every change is written before it is gone by.

What a write that fails leaves behind is the state before it, in both.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lotteryfl.common.faults import fault
from lotteryfl.common.security.identity import owner
from lotteryfl.common.telemetry.tracing import span
from lotteryfl.common.text import brief
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.operating.disk import DiskRoom
from lotteryfl.server.operating.steering import Steering
from lotteryfl.server.privacy.accountant import Accountant
from lotteryfl.server.rounds.conclusion import Conclusion
from lotteryfl.server.rounds.opening import Opening
from lotteryfl.server.rounds.openround import Decision, OpenRound
from lotteryfl.server.rounds.progress import note_progress
from lotteryfl.server.rounds.stacks import Place, places
from lotteryfl.server.rounds.told.journal import note_given, note_returned, note_taken_back
from lotteryfl.server.rounds.told.traces import Traces
from lotteryfl.server.rounds.workers import WorkerRegistry
from lotteryfl.server.store.advice import advice
from lotteryfl.server.store.assignments import Standing
from lotteryfl.server.store.events import Events
from lotteryfl.server.store.globalcurve import last_shared
from lotteryfl.server.store.refusals import Refusals
from lotteryfl.server.store.rundb.keptmodels import keep_model
from lotteryfl.server.store.rundb.rows import AssignmentRow, Received
from lotteryfl.server.store.rundb.timeleft import seconds_left
from lotteryfl.server.store.rundir import RunDirectory, put_shared_mask
from lotteryfl.server.store.summaries import left_out, next_round, round_summaries, rounds_left, told_of
from lotteryfl.server.store.superseded import Superseded
from lotteryfl.server.store.traffic import Traffic
from lotteryfl.server.strategies.base import Strategy
from lotteryfl.server.strategies.support.returned import returns_models


class Ledger:
    """A run's state and its open round."""

    state: str
    """One of running, finished, failed."""
    round: OpenRound
    is_open: bool
    """The round is on record; else the run has finished, or a strategy that goes by who is there waits for them."""
    rows: dict[int, AssignmentRow]
    """By client, the open round's assignments as they were when it was taken up; how they stand now, `round` knows."""
    places: Mapping[int, Place]
    """By client, where those are in their stacks who train as one model with others."""
    committed: int
    """How many rounds are committed."""
    last: pb.RoundSummary | None
    """The last committed round."""
    events: Events
    """What happens, for people: on its way to run.db."""
    left_out: Sequence[pb.LeftOut]
    """Who sat most committed rounds out, chosen anew with every round and not with every question."""
    advice: str
    """What the last committed rounds say against the experiment's settings."""
    shared: pb.SharedModel | None
    """What the shared model was worth when it was measured last."""
    seconds_left: float | None
    """Until the run's end, as its last rounds went; None: nobody knows."""
    traces: Traces
    """Spans of the open round and of its leases."""
    happened: Counter[str]
    """Since this process took the run up: leases that were given, how those ended, and results that came in vain."""

    def __init__(
        self, run: RunDirectory, strategy: Strategy, clock: Callable[[], float], workers: WorkerRegistry
    ) -> None:
        """Take up a run where its directory says it stands.

        Args:
            run: the open run directory.
            strategy: of the run.
            clock: seconds, from any start.
            workers: that have registered; looked at for strategies alone that go by who is there.
        """
        self._run = run
        self._database = run.database
        self._strategy = strategy
        self._clock = clock
        self._opening = Opening(run, strategy, workers)
        self.events = Events(run.database)
        self.traces = Traces(run.run_id)
        self.traffic = Traffic(run.database)
        self.refusals = Refusals(run.database, run.experiment.checks.max_refusals)
        self._all_left_out: dict[int, pb.LeftOut] = {}  # by client
        self._known_rounds = 0  # whose missing clients are in there
        self.left_out = ()
        self.committed = run.database.committed_rounds()
        self.happened = Counter()
        self._accountant = Accountant(run.database, run.experiment) if run.experiment.privacy.is_promised else None
        run.remove_leftovers()
        self.steering = Steering(run.database, self.refusals, self.events)
        """What operators have said of the run."""
        self._disk = DiskRoom(run, self.events)
        self._take_up()
        if self.state == "failed":
            self.start_over(self.round.assignments.dropped_anew(), retries=0, reason="")
        if self.state != "finished":
            self.events.remember("started", f"the coordinator has begun, with {self.committed} rounds committed")

    def missed(self, client: int) -> int:
        """Return how many committed rounds a client sat out."""
        return self._all_left_out[client].rounds if client in self._all_left_out else 0

    @property
    def reason(self) -> str:
        """Why the run is paused, failed, tries its open round again, waits to open it, or trains no more."""
        return (self.state == "running" and self.steering.reason) or self._reason

    @property
    def is_final(self) -> bool:
        """Whether the open round is the last: after the training rounds, every client is measured once."""
        return self.round.number > self._run.experiment.rounds

    def take_back(self, standings: Sequence[Standing], how: str) -> None:
        """Let assignments stand otherwise that were under work.

        Args:
            standings: how they stand then.
            how: what has happened, for the log.
        """
        if standings:
            changed = self.round.assignments.with_next(standings)
            with self.events.transaction():
                self._database.set_standings(changed)
                self.events.add_taken_back(standings)
            self.round.assignments.apply(changed, self._clock())
            self.happened[how] += len(standings)
            note_taken_back(standings, how)
            self.traces.ended(standings, how)

    def lease(self, granted: Sequence[Standing], *, broadcast: bool) -> list[Standing]:
        """Give assignments that are leased as one to a worker.

        Args:
            granted: the first goes to it now.
            broadcast: that starts from the whole model.

        Returns:
            What was withdrawn for it, as it stood: others had it ahead.
        """
        before = [self.round.assignments[each.id.client] for each in granted]
        fault("lease-writing")
        with self.events.transaction():
            self._database.set_standings(granted)
            self._database.set_broadcast(granted[0].id, broadcast=broadcast)
        self.round.assignments.apply(granted, self._clock())
        fault("lease-written")
        replaced = [then for now, then in zip(granted, before, strict=True) if now.id != then.id]
        withdrawn = [then for then in replaced if then.state == "leased"]
        self.happened["given"] += len(replaced)
        self.happened["withdrawn"] += len(withdrawn)
        note_given(granted, withdrawn)
        self.traces.ended(withdrawn, "withdrawn")
        self.traces.given(granted)
        return withdrawn

    def count(self, held: Standing, received: Received) -> None:
        """Count a checked result."""
        done = held._replace(state="done")
        changed = self.round.assignments.with_next((done,))
        fault("result-recording")
        with self.events.transaction():
            self.traffic.flush()
            self._database.add_result(done.id, received)
            self._database.set_standings(changed)
        self.round.assignments.apply(changed, self._clock())
        self.happened["returned"] += 1
        fault("result-recorded")
        note_returned(done, received, self.traffic)
        self.traces.ended((done,))

    def refuse(self, held: Standing, reason: str) -> None:
        """Count a refused result, and give its work out again.

        With its worker's last chance, none of the worker's refused attempts in this round count any more: those
        who do its work have all of theirs. All processes of one certificate or token are one worker here.
        """
        worker, assignments = owner(held.worker), self.round.assignments
        refused = self.refusals.with_another(worker, brief(reason))
        back = assignments.taken_back(held.id.client, f"refused: {refused.reason}", has_begun=True)
        standings = {held.id.client: back}
        if self.refusals.is_too_much(refused):
            counted = self._database.refused_clients(held.id.round, worker, refused.forgiven)
            wasted = Counter(counted) + Counter([held.id.client])
            for client, attempts in wasted.items():
                standing = standings.get(client, assignments[client])
                standings[client] = assignments.forgiving(standing, attempts)
        changed = assignments.with_next(standings.values())
        with self.events.transaction():
            self._database.add_refusal(held.id, worker, refused.reason)
            self._database.set_standings(changed)
            self.events.add("refused", refused.reason, client=held.id.client, worker=worker)
            if standings[held.id.client].state == "dropped":
                self.events.add_taken_back((standings[held.id.client],))
            if self.refusals.is_too_much(refused):
                self.events.add("aside", self.refusals.why_aside(worker, refused), worker=worker)
        self.refusals.put(worker, refused)
        self.happened["refused"] += 1
        assignments.apply(changed, self._clock())
        note_taken_back((standings[held.id.client],), "refused")
        self.traces.ended((held,), "refused")
        assignments.may_try_again(held.id.client, held.worker)  # rubbish spares it no work

    def start_over(self, standings: Sequence[Standing], *, retries: int, reason: str) -> None:
        """Give the open round its whole time again; results that are there stay.

        Args:
            standings: of the assignments that are tried anew.
            retries: how often the round has now been tried again.
            reason: why; '' where the run goes on as usual.
        """
        with self.events.transaction():
            self._put_state("running", reason)
            self._database.set_retries(self.round.number, retries)
            self._database.set_standings(standings)
            if retries:
                self.events.add("round-retry", reason)
        self.state, self._reason = "running", reason
        self.round.start_over(standings, self._clock(), retries=retries)

    def commit(self, closed: Decision, conclusion: Conclusion) -> list[Path]:
        """Commit the open round, and open the next.

        Args:
            closed: why it is over, and what becomes of the assignments without a result.
            conclusion: what its results came to.

        Returns:
            The files that the run does not need any more.
        """
        model = conclusion.model
        number = self.round.number
        superseded = Superseded(self._run, number)
        fault("round-committing")
        with span("commit"), self.events.transaction():
            self.traffic.flush()
            self._database.set_standings(closed.standings)
            self.events.add_each("late", closed.standings)
            tickets = self.is_final or returns_models(self._strategy, number)
            spent = self._accountant.most_spent_with(number) if self._accountant else None
            self._database.commit_round(number, self.round.age(self._clock()), closed.reason, spent, tickets=tickets)
            reason = note_progress(self._run, number, aggregates=self._strategy.aggregates)
            if model is not None:
                self._database.put("model_sha256", model.sha256)
                self._database.put("model_digest", model.digest)
                self._database.put("model_round", str(number))
                if self._run.experiment.evaluation.keeps(number):
                    keep_model(self._database, number, model.digest)
            if conclusion.mask is not None:
                put_shared_mask(self._database, conclusion.mask)
            if self.is_final:
                self._put_state("finished", "")
                self.events.add("finished", f"all {self._run.experiment.rounds} rounds are committed")
            elif self.state == "running":
                self._put_state("running", reason)  # there is no reason to try again any more
        self.committed += 1
        self.happened["late"] += self.round.assignments.count("leased")
        if self._accountant:
            self._accountant.keep()
        if conclusion.mask is not None:
            self._run.settle_masks(conclusion.mask.digest, counts=True)
        fault("round-committed")
        unneeded = superseded.dropped()
        self._take_up()
        return unneeded

    def fail(self, reason: str) -> None:
        """End the run without a result."""
        self.traces.round_ended("failed")
        self.state, self._reason = "failed", reason  # also where the disk cannot take it any more
        with self.events.transaction():
            self.traffic.flush()
            self._put_state("failed", reason)
            self.events.add("failed", reason)

    def stop(self) -> None:
        """Put on record that nobody drives the run any more, unless it has ended, or that somebody said so."""
        if self.state == "running" and not self.steering.is_stopped:
            with self.events.transaction():
                self.events.add("stopped", f"the coordinator has ended, in round {self.round.number}")

    def look_at_disk(self) -> None:
        """Say in the advice where the disk has less room than the open round may take."""
        if self.state == "running" and (short := self._disk.look(len(self.rows))):
            self.advice = "; ".join(filter(None, (short, self.advice)))

    def _put_state(self, state: str, reason: str) -> None:
        self._database.put("state", state)
        self._database.put("reason", reason)

    def _take_up(self) -> None:
        database = self._database
        number, last = next_round(database, self._run.experiment.rounds), database.last_round()
        self.state, self._reason = database.get("state"), database.get("reason")
        self.last = next(iter(round_summaries(database, last)), None)
        self.advice = advice(database, self._run.experiment)
        self.shared = last_shared(database)
        self.seconds_left = seconds_left(database, rounds_left(self.state, number, self._run.experiment.rounds))
        told = {missing.client: missing for missing in self.left_out}  # who is not among them has missed no more since
        for missing in left_out(database, self._known_rounds + 1):
            missing.rounds += self._all_left_out.get(missing.client, pb.LeftOut()).rounds
            self._all_left_out[missing.client] = told[missing.client] = missing
        self.left_out = told_of(told.values())
        self._known_rounds = last
        is_on_record = self.state != "finished" and database.is_open(number)
        self._put_round(number, is_open=is_on_record or (self.state != "finished" and self._open(number)))

    def open_if_enough(self) -> bool:
        """Open the round that waits for who is there, if they are enough by now; tell whether it was opened."""
        number = self.round.number
        if self._open(number, self.round.age(self._clock())):
            self._reason = self._database.get("reason")
            self._put_round(number, is_open=True)
        return self.is_open

    def _open(self, number: int, waited: float = 0.0) -> bool:
        """Open a round, or let the reason say what it waits for; tell whether it was opened."""
        if waits := self._opening.open(number, self._clock(), waited):
            self._reason = waits
        return not waits

    def _put_round(self, number: int, *, is_open: bool) -> None:
        """Take up a round as it is on record."""
        rows = self._database.assignments(number) if is_open else []
        retries = self._database.retries(number) if is_open else 0
        self.is_open, self.events.round = is_open, number
        self.rows = {row.client: row for row in rows}
        self.places = places(rows)
        in_order = sorted(rows, key=lambda row: row.leased_at if row.state == "leased" else "")  # of leasing
        standings = (row.standing for row in in_order)
        stacks = {client: place.first for client, place in self.places.items()}
        settings, now = self._run.experiment.round, self._clock()
        self.round = OpenRound(number, settings, standings, now, retries=retries, stacks=stacks)
        if self.state == "finished":
            self.traces.round_ended()
        else:
            self.traces.take_up(number, self.round.assignments.leases())
