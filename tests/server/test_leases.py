"""Leases by example, and against a model: never two holders of one client, nothing lost, fencing by attempt."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from server.leases import AssignmentId, Lease, LeaseTable

LEASE = 10.0


def table_of(*clients: int) -> LeaseTable:
    table = LeaseTable(7, LEASE)
    for client in clients:
        table.add(client, 0)
    return table


def grant(table: LeaseTable, worker: str, clients: set[int] | None = None, now: float = 0.0) -> Lease:
    lease = table.grant(worker, clients, now)
    assert lease is not None
    return lease


def test_assignments_are_served_in_order_and_each_once() -> None:
    table = table_of(4, 2, 9)
    assert [grant(table, worker).id for worker in "abc"] == [(7, 4, 1), (7, 2, 1), (7, 9, 1)]
    assert table.grant("d", None, 0) is None
    assert len(table) == 3


def test_a_worker_gets_only_its_clients() -> None:
    table = table_of(0, 1, 2)
    assert grant(table, "a", {2}).id.client == 2
    assert table.grant("b", {2}, 0) is None
    assert table.grant("c", set(), 0) is None
    assert grant(table, "d").id.client == 0


def test_a_worker_that_fetches_again_gets_the_assignment_that_it_holds_renewed() -> None:
    table = table_of(0, 1)
    first = grant(table, "a", now=0)
    again = grant(table, "a", now=8)
    assert again.id == first.id
    assert [lease.id.client for lease in table.expired(17.9)] == []
    assert table.expired(18) == [Lease(first.id, "a", 18)]


def test_a_lease_ends_a_lease_time_after_its_last_renewal() -> None:
    table = table_of(0)
    id_ = grant(table, "a", now=5).id
    assert table.expired(14.9) == []
    assert table.renew(id_, "a", 14)
    assert table.expired(23.9) == []
    assert [lease.id for lease in table.expired(24)] == [id_]


def test_only_its_holder_renews_a_lease() -> None:
    table = table_of(0)
    id_ = grant(table, "a").id
    assert not table.renew(id_, "b", 5)
    assert not table.renew(id_._replace(attempt=2), "a", 5)
    assert not table.renew(id_._replace(round=6), "a", 5)
    assert [lease.id for lease in table.expired(10)] == [id_]


def test_what_is_taken_back_goes_first_in_line_under_a_new_attempt() -> None:
    table = table_of(0, 1, 2)
    old = grant(table, "a").id
    table.take_back(0)
    new = grant(table, "b")
    assert new.id == (7, 0, 2)
    assert table.held(old, "a") is None
    assert not table.renew(old, "a", 1)
    assert table.held(new.id, "b") == new


def test_a_settled_assignment_is_gone() -> None:
    table = table_of(0)
    id_ = grant(table, "a").id
    table.settle(0)
    assert (len(table), table.leases(), table.held(id_, "a")) == (0, [], None)
    assert table.grant("a", None, 0) is None


def test_a_restored_lease_stands_for_a_whole_lease_time_and_keeps_its_attempt() -> None:
    table = LeaseTable(7, LEASE)
    id_ = AssignmentId(7, 3, 2)
    table.restore(id_, "a", 100)
    assert grant(table, "a", now=100).id == id_
    assert table.expired(109.9) == []
    table.take_back(3)
    assert grant(table, "b").id.attempt == 3


@pytest.mark.parametrize("text", ["r1-c2-a3", "r999999999-c0-a1"])
def test_an_id_is_read_as_it_was_written(text: str) -> None:
    assert str(AssignmentId.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "r1-c2", "r1-c2-a3 ", "r1-c2-a3\n", "r-1-c2-a3", "r1-c2-a3/../x", "r1234567890-c2-a3", "r١-c2-a3"]
)
def test_anything_else_is_no_id(text: str) -> None:
    assert AssignmentId.parse(text) is None


CLIENTS = st.integers(0, 3)
WORKERS = st.sampled_from("abc")


class LeasesAgainstAModel(RuleBasedStateMachine):
    """The model: who waits and who holds what; every id that was ever granted stays on record."""

    @initialize()
    def start(self) -> None:
        self.now = 0.0
        self.table = table_of(*range(4))
        self.waiting = set(range(4))
        self.holder: dict[int, tuple[AssignmentId, str, float]] = {}
        self.settled: set[int] = set()
        self.granted: list[tuple[AssignmentId, str]] = []

    @rule(worker=WORKERS, clients=st.none() | st.sets(CLIENTS))
    def fetch(self, worker: str, clients: set[int] | None) -> None:
        holds = {id_ for id_, who, _ in self.holder.values() if who == worker}
        open_ = self.waiting if clients is None else self.waiting & clients
        lease = self.table.grant(worker, clients, self.now)
        if lease is None:
            assert not holds
            assert not open_
            return
        if holds:
            assert {lease.id} == holds
        else:
            assert lease.id.client in open_
            earlier = [id_.attempt for id_, _ in self.granted if id_.client == lease.id.client]
            assert lease.id.attempt > max(earlier, default=0)
            self.waiting.remove(lease.id.client)
            self.granted.append((lease.id, worker))
        self.holder[lease.id.client] = (lease.id, worker, self.now + LEASE)

    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        if self.granted:
            id_, worker = data.draw(st.sampled_from(self.granted))
            stands = self.holder.get(id_.client, (None, "", 0.0))[:2] == (id_, worker)
            assert self.table.renew(id_, worker, self.now) == stands
            if stands:
                self.holder[id_.client] = (id_, worker, self.now + LEASE)

    @rule(seconds=st.sampled_from([1.0, 4.0, LEASE]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        expired = {lease.id.client for lease in self.table.expired(self.now)}
        assert expired == {client for client, (_, _, until) in self.holder.items() if until <= self.now}
        for client in expired:
            self.table.take_back(client)
            del self.holder[client]
            self.waiting.add(client)

    @rule(client=CLIENTS)
    def result_comes(self, client: int) -> None:
        if client in self.holder:
            self.table.settle(client)
            del self.holder[client]
            self.settled.add(client)

    @invariant()
    def every_assignment_is_waiting_leased_or_settled(self) -> None:
        leases = self.table.leases()
        assert {lease.id.client: (lease.id, lease.worker, lease.expires) for lease in leases} == self.holder
        assert len(self.table) == len(self.waiting) + len(self.holder) == 4 - len(self.settled)

    @invariant()
    def no_worker_holds_two_and_nobody_but_the_holder_holds(self) -> None:
        workers = [worker for _, worker, _ in self.holder.values()]
        assert len(workers) == len(set(workers))
        standing = {(id_, worker) for id_, worker in self.granted if self.table.held(id_, worker)}
        assert standing == {(id_, worker) for id_, worker, _ in self.holder.values()}


TestLeasesAgainstAModel = LeasesAgainstAModel.TestCase
TestLeasesAgainstAModel.settings = settings(max_examples=60, stateful_step_count=30)


def test_a_worker_gets_the_client_it_served_last_and_nobody_idles() -> None:
    table = LeaseTable(1, 10)
    for client in range(5):
        table.add(client, 0)
    homes = {0: "a", 1: "a", 3: "b"}
    leased = []
    for _ in range(5):
        lease = table.grant("b", None, 0.0, homes)
        assert lease
        leased.append(lease.id.client)
        table.settle(lease.id.client)
    # Its own before the first in line; nobody's before another's; another's rather than nothing.
    assert leased == [3, 2, 4, 0, 1]
