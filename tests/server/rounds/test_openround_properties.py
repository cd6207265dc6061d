"""The decisions on an open round, driven by random events: against what its workers, its disk and its clock say."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lotteryfl.common.experiment.settings import RoundSettings
from lotteryfl.common.names import WorkerId
from lotteryfl.server.rounds.openround import OpenRound, Verdict
from lotteryfl.server.store.assignments import AssignmentId, Standing

CLIENTS = range(5)
LEASE = 10.0
WORKERS = st.sampled_from(["a:1", "b:1", "c:1", "d:1"]).map(WorkerId)
SETTINGS = RoundSettings(min_results=3, retries=2, deadline=60, lease=LEASE, max_attempts=2)


class AnyRound(RuleBasedStateMachine):
    """A coordinator with a dict for a disk, workers that do as they like, and a clock that may jump."""

    @initialize()
    def start(self) -> None:
        self.now = self.checked = 0.0
        self.tried_since = 0.0
        self.disk = {client: Standing(AssignmentId(1, client, 0)) for client in CLIENTS}
        self.retries = 0
        self.heard: dict[WorkerId, float] = {}
        self.renewed: dict[int, float] = {}  # by client with a lease
        self.issued: dict[AssignmentId, WorkerId] = {}
        self.results: dict[int, AssignmentId] = {}
        self.tries: Counter[int] = Counter()  # by client, attempts that counted in this try of the round
        self.is_over = False
        self.order: list[int] = []  # clients with a lease, in the order of leasing
        self.returning: set[int] = set()  # of them, those whose work is known to be over
        self.must_begin: set[int] = set()  # clients that a worker had ahead which is gone
        self.take_up()

    def take_up(self) -> None:
        self.returning, self.must_begin = set(), set()
        in_order = sorted(
            self.disk.values(), key=lambda s: self.order.index(s.id.client) if s.state == "leased" else -1
        )
        self.round = OpenRound(1, SETTINGS, in_order, self.now, retries=self.retries)
        self.renewed = {client: self.now for client, standing in self.disk.items() if standing.state == "leased"}
        self.tried_since = self.checked = self.now

    def write(self, *standings: Standing) -> None:
        """Only what has been written is applied; results are never written over."""
        for standing in standings:
            client = standing.id.client
            assert client not in self.results
            assert standing.id.attempt >= self.disk[client].id.attempt
            is_same = (standing.id, standing.state) == (self.disk[client].id, "leased")
            self.disk[client] = standing
            if not is_same:
                self.renewed.pop(client, None)
                self.returning.discard(client)
                self.order = [each for each in self.order if each != client]
                if standing.state == "leased":
                    self.order.append(client)
                    self.must_begin.discard(client)

    def apply(self, *standings: Standing) -> None:
        self.write(*standings)
        self.round.assignments.apply(standings, self.now)
        for standing in standings:
            if standing.state == "leased":
                self.renewed |= dict.fromkeys(self.held_by(standing.worker), self.now)

    def held_by(self, worker: WorkerId) -> list[int]:
        return [client for client in self.order if self.disk[client].worker == worker]

    def is_ahead(self, client: int) -> bool:
        return client in self.order and self.held_by(self.disk[client].worker)[0] != client

    def has_begun(self, client: int) -> bool:
        return not self.is_ahead(client) or self.held_by(self.disk[client].worker)[0] in self.returning

    def ended(self, *standings: Standing) -> None:
        """Leases that end; what was ahead of a worker then begins."""
        self.must_begin |= {s.id.client for s in standings if s.state == "waiting" and self.is_ahead(s.id.client)}
        self.apply(*self.round.assignments.with_next(standings))

    def lost(self, *standings: Standing, has_begun: bool = False) -> None:
        """Attempts that came to nothing: given up after as many as are allowed, and not before."""
        for standing in standings:
            client = standing.id.client
            self.tries[client] += has_begun or self.has_begun(client)
            is_last = self.tries[client] >= SETTINGS.max_attempts
            assert standing.state == ("dropped" if is_last else "waiting")
            assert standing.reason
        self.ended(*standings)

    # -- workers

    @precondition(lambda self: not self.is_over)
    @rule(worker=WORKERS, clients=st.none() | st.sets(st.sampled_from(CLIENTS)), names_them=st.booleans())
    def fetch(self, worker: WorkerId, clients: set[int] | None, names_them: bool) -> None:
        self.heard[worker] = self.now
        before = dict(self.disk)
        holds = [before[client] for client in self.held_by(worker)]
        named = [str(standing.id) for standing in holds] if names_them else []
        granted = self.round.assignments.grant(worker, clients, has=named)
        its = [k for k in CLIENTS if clients is None or k in clients]
        may = [k for k in its if before[k].state == "waiting" and not (holds and k in self.must_begin)]
        others = [k for k in self.order if k in its and not self.has_begun(k)]
        if granted is None:
            assert len(holds) == len(named)
            assert len(holds) == SETTINGS.leases or not may
            assert holds or not others
            return
        if len(holds) > len(named):
            assert granted == holds[0]
        else:
            client = granted.id.client
            assert client in (may or others), "nobody loses what it has as long as anything waits"
            assert granted.id not in self.issued, "every attempt has one worker"
            assert granted.id.attempt > before[client].id.attempt
            assert granted.forgiven == before[client].forgiven + bool(holds)
            self.issued[granted.id] = worker
        self.apply(granted)

    @precondition(lambda self: self.order and not self.is_over)
    @rule(data=st.data())
    def work_ends(self, data: st.DataObject) -> None:
        """A result is on its way, or a failure."""
        client = data.draw(st.sampled_from([k for k in self.order if not self.is_ahead(k)]))
        self.round.assignments.returning(self.disk[client].id)
        self.returning.add(client)

    @rule(worker=WORKERS)
    def heartbeat(self, worker: WorkerId) -> None:
        self.heard[worker] = self.now
        self.round.assignments.renew(worker, self.now)
        for client, standing in self.disk.items():
            if (standing.state, standing.worker) == ("leased", worker):
                self.renewed[client] = self.now

    @precondition(lambda self: self.issued and not self.is_over)
    @rule(data=st.data(), worker=WORKERS, hands_back=st.booleans())
    def answer(self, data: st.DataObject, worker: WorkerId, hands_back: bool) -> None:
        """A result or a failure, of any attempt that was ever issued, by anyone, any number of times."""
        id_ = data.draw(st.sampled_from(sorted(self.issued)))
        standing = self.disk[id_.client]
        stands = (standing.id, standing.state, standing.worker) == (id_, "leased", worker)
        held = self.round.assignments.held(id_, worker)
        assert (held is not None) == stands, "only the holder of the newest attempt is listened to"
        if held is None:
            return
        assert self.issued[id_] == worker
        if hands_back:
            back = self.round.assignments.taken_back(id_.client, "handed back", has_begun=True)
            self.lost(back, has_begun=True)
        else:
            self.ended(held._replace(state="done"))
            self.results[id_.client] = id_

    # -- time and the coordinator

    @precondition(lambda self: not self.is_over)
    @rule(seconds=st.sampled_from([0.0, 1.0, 3.0, 7.0, LEASE, 1.5 * LEASE, 1000.0]))
    def look(self, seconds: float) -> None:
        self.now += seconds
        was_stopped = self.now - self.checked > LEASE
        if was_stopped:
            self.tried_since += self.now - self.checked
            self.renewed = dict.fromkeys(self.renewed, self.now)
        self.checked = self.now
        expired = self.round.expired(self.now, self.heard)
        self.check_expired({standing.id.client for standing in expired})
        self.lost(*expired)
        self.decide()

    def check_expired(self, expired: set[int]) -> None:
        silences = {client: self.now - renewed for client, renewed in self.renewed.items()}
        assert all(silences[client] >= LEASE for client in expired)
        last = dict(self.heard)
        for client, renewed in self.renewed.items():
            last[self.disk[client].worker] = max(renewed, last.get(self.disk[client].worker, renewed))
        lately = {worker for worker, moment in last.items() if self.now - moment < 2 * LEASE}
        silent = {worker for worker in lately if self.now - last[worker] >= LEASE}
        patience = 2 * LEASE if len(silent) > len(lately - silent) else LEASE
        assert expired == {client for client, silence in silences.items() if silence >= patience}

    def decide(self) -> None:
        verdict, reason, standings = self.round.decide(self.now)
        open_ = {client for client, s in self.disk.items() if s.state in ("waiting", "leased")}
        in_time = self.now - self.tried_since < SETTINGS.deadline
        assert reason
        assert (verdict is Verdict.WAIT) == bool(open_ and in_time)
        if verdict is Verdict.WAIT:
            return
        enough = len(self.results) >= SETTINGS.min_results
        assert (verdict is Verdict.COMMIT) == enough
        if verdict is Verdict.RETRY:
            assert self.retries < SETTINGS.retries
            self.try_again(standings)
            return
        self.is_over = True
        if verdict is Verdict.COMMIT:
            self.apply(*standings)
            assert {s.state for client, s in self.disk.items() if client not in self.results} <= {"dropped"}
        else:
            assert self.retries == SETTINGS.retries

    def try_again(self, standings: tuple[Standing, ...]) -> None:
        assert {s.id.client for s in standings} == {k for k, s in self.disk.items() if s.state == "dropped"}
        assert {s.state for s in standings} <= {"waiting"}
        for standing in standings:
            self.tries[standing.id.client] = 0
        self.write(*standings)
        self.retries += 1
        self.round.start_over(standings, self.now, retries=self.retries)
        self.tried_since = self.now
        assert self.round.decide(self.now).verdict is Verdict.WAIT

    @precondition(lambda self: not self.is_over)
    @rule(seconds=st.sampled_from([0.0, 5000.0]), knows_them_gone=st.booleans())
    def coordinator_restarts(self, seconds: float, knows_them_gone: bool) -> None:
        self.now += seconds
        self.heard.clear()
        self.take_up()
        if knows_them_gone:
            table = self.round.assignments
            back = [table.taken_back(lease.id.client, "gone", counts=False) for lease in table.leases()]
            assert {standing.state for standing in back} <= {"waiting"}
            self.ended(*back)

    # -- always

    @invariant()
    def memory_is_as_the_disk(self) -> None:
        table = self.round.assignments
        states = Counter(standing.state for standing in self.disk.values())
        assert {state: table.count(state) for state in ("waiting", "leased", "done", "dropped")} == {
            state: states[state] for state in ("waiting", "leased", "done", "dropped")
        }
        leased = {(s.id, s.worker) for s in self.disk.values() if s.state == "leased"}
        assert {(lease.id, lease.worker) for lease in table.leases()} == leased
        assert table.unsettled == states["waiting"] + states["leased"]
        assert set(table.waiting(None)) == {client for client, s in self.disk.items() if s.state == "waiting"}

    @invariant()
    def what_was_counted_stays_counted_once(self) -> None:
        done = {client: s.id for client, s in self.disk.items() if s.state == "done"}
        assert done == self.results

    @invariant()
    def no_worker_holds_more_than_it_may(self) -> None:
        holders = Counter(lease.worker for lease in self.round.assignments.leases())
        assert all(count <= SETTINGS.leases for count in holders.values())

    @precondition(lambda self: not self.is_over)
    @invariant()
    def what_has_not_begun_has_cost_nothing_on_the_disk(self) -> None:
        for client, standing in self.disk.items():
            if standing.state != "done":
                under_work = standing.state == "leased" and not self.is_ahead(client)
                assert standing.id.attempt - standing.forgiven == self.tries[client] + under_work

    @invariant()
    def it_is_looked_at_in_time(self) -> None:
        wait = self.round.seconds_until_check(self.now)
        assert 0 <= wait <= LEASE / 3


TestAnyRound = AnyRound.TestCase
TestAnyRound.settings = settings(max_examples=150, stateful_step_count=40)
