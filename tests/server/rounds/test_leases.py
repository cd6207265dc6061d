"""Leases by example: who gets what, until when, and whose silence it is."""

import pytest

from lotteryfl.common.names import WorkerId
from lotteryfl.server.rounds.leases import LeaseTable
from lotteryfl.server.store.assignments import AssignmentId, Lease, Standing
from tests.support.leasing import EVERYONE, LEASE, A, B, C, D, expired, fail, grant, table_of, take_back


def test_what_a_worker_has_failed_at_goes_to_another_that_may_do_it() -> None:
    table = table_of(1, 2, max_attempts=4)
    a, b, c = map(WorkerId, ("a:1", "b:1", "c:1"))
    peers = {a: None, b: None, c: {2}}
    fail(table, grant(table, a, {1}))
    assert table.grant(a, {1}, None, peers) is None
    assert table.grant(a, None, None, peers).id.client == 2  # type: ignore[union-attr]
    assert table.grant(a, {1}, None, {a: None, c: {2}}), "nobody else has its data"
    fail(table, grant(table, b, {1}))
    assert table.grant(a, {1}, None, peers), "all have tried"
    again = LeaseTable([table[1]], 0.0, lease_seconds=LEASE, max_attempts=4)
    assert again.grant(b, None, None, peers) is None, "after a restart the last one is known"


def test_an_assignment_that_never_arrived_has_cost_no_attempt() -> None:
    table = table_of(1, max_attempts=1)
    sent = grant(table, "a")
    table.send(sent.id)
    fail(table, sent)
    assert (table[1].state, table[1].forgiven) == ("waiting", 1)
    sent = grant(table, "a")
    table.send(sent.id)
    table.arrived(sent.id)
    fail(table, sent)
    assert table[1].state == "dropped"


def test_assignments_are_served_in_order_and_each_once() -> None:
    table = table_of(4, 2, 9)
    assert [grant(table, worker).id for worker in "abc"] == [(7, 4, 1), (7, 2, 1), (7, 9, 1)]
    assert table.grant(D, None) is None
    assert (len(table), table.unsettled, table.count("leased"), table.count("waiting")) == (3, 3, 3, 0)


def test_a_decision_changes_nothing_until_it_is_applied() -> None:
    table = table_of(0, 1)
    assert table.grant(A, None) == table.grant(A, None) == table.grant(B, None)._replace(worker=A)  # type: ignore[union-attr]
    held = grant(table, "a")
    table.taken_back(0, "why")
    table.expired(LEASE, EVERYONE)
    table.left_out("why")
    assert table.held(held.id, A) == held
    assert (table.count("leased"), table.count("waiting")) == (1, 1)


def test_a_worker_gets_only_its_clients() -> None:
    table = table_of(0, 1, 2)
    assert grant(table, "a", {2}).id.client == 2
    assert table.grant(B, {2}) is None
    assert table.grant(C, set()) is None
    assert grant(table, "d").id.client == 0


def test_a_worker_gets_the_client_it_served_last_and_nobody_idles() -> None:
    table = table_of(*range(5))
    homes = {0: A, 1: A, 3: B}
    leased = []
    for _ in range(5):
        granted = table.grant(B, None, homes)
        assert granted
        leased.append(granted.id.client)
        table.apply([granted], 0)
        table.apply([granted._replace(state="done")], 0)
    # Its own before the first in line; nobody's before another's; another's rather than nothing.
    assert leased == [3, 2, 4, 0, 1]


def test_a_worker_that_fetches_again_gets_the_assignment_that_it_holds_renewed() -> None:
    table = table_of(0, 1)
    first = grant(table, "a", now=0)
    assert grant(table, "a", now=8) == first
    assert expired(table, 17.9) == []
    assert expired(table, 18) == [0]


def test_a_lease_ends_a_lease_time_after_its_holder_was_heard_of_last() -> None:
    table = table_of(0, 1)
    grant(table, "a", now=5)
    grant(table, "gpu-7:1", now=5)
    table.renew(A, 14)
    table.renew(WorkerId("nobody"), 14)
    gpu = WorkerId("gpu-7:1")
    assert table.leases() == [Lease(AssignmentId(7, 0, 1), A, 24), Lease(AssignmentId(7, 1, 1), gpu, 15)]
    assert expired(table, 14.9) == []
    assert expired(table, 15) == [1]
    assert expired(table, 24) == [0, 1]
    (standing,) = table.expired(15, EVERYONE)
    assert (standing.state, standing.reason) == ("waiting", "gpu-7 was silent for 10 s")


def test_only_the_holder_of_the_newest_attempt_holds() -> None:
    table = table_of(0)
    held = grant(table, "a")
    assert table.held(held.id, A) == held
    assert table.held(held.id, B) is None
    assert table.held(held.id._replace(attempt=2), A) is None
    assert table.held(held.id._replace(round=6), A) is None
    assert table.held(held.id._replace(client=1), A) is None


def test_what_is_taken_back_goes_first_in_line_under_a_new_attempt() -> None:
    table = table_of(0, 1, 2)
    old = grant(table, "a").id
    take_back(table, 0)
    assert table.held(old, A) is None
    new = grant(table, "b")
    assert new.id == (7, 0, 2)
    assert table.held(old, A) is None
    assert table.held(new.id, B) == new
    assert grant(table, "a").id == (7, 1, 1)


def test_a_settled_assignment_is_gone() -> None:
    table = table_of(0)
    held = grant(table, "a")
    table.apply([held._replace(state="done")], 0)
    assert (len(table), table.unsettled, table.count("done")) == (1, 0, 1)
    assert (table.leases(), table.held(held.id, A), table.grant(A, None)) == ([], None, None)


def test_a_restored_lease_stands_for_a_whole_lease_time_and_keeps_its_attempt() -> None:
    held = Standing(AssignmentId(7, 3, 2), "leased", A)
    table = LeaseTable([held], 100, lease_seconds=LEASE, max_attempts=3)
    assert grant(table, "a", now=100) == held
    assert expired(table, 109.9) == []
    assert expired(table, 110) == [3]
    take_back(table, 3)
    assert grant(table, "b").id.attempt == 3


# ---- attempts


def test_after_its_last_attempt_an_assignment_is_dropped() -> None:
    table = table_of(0, max_attempts=2)
    states = []
    for worker in "ab":
        grant(table, worker)
        states.append(take_back(table, 0).state)
    assert states == ["waiting", "dropped"]
    assert (table.unsettled, table.count("dropped"), table.reasons()) == (0, 1, ["why"])
    assert table.grant(C, None) is None


def test_a_reason_that_many_clients_have_is_told_once() -> None:
    why = {0: "client 0 of task mine: no rows", 1: "client 1 of task mine: no rows", 2: "client 2 of task mine: 1 row"}
    standings = [Standing(AssignmentId(1, client, 1), "dropped", reason=reason) for client, reason in why.items()]
    table = LeaseTable(standings, 100, lease_seconds=LEASE, max_attempts=1)
    assert table.reasons() == ["client 0 of task mine: no rows (and 1 more alike)", why[2]]


def test_attempts_that_were_lost_by_the_coordinator_do_not_count_and_all_fence() -> None:
    table = table_of(0, max_attempts=2)
    attempts = []
    for counts in (True, False, False, True):
        attempts.append(grant(table, "a").id.attempt)
        last = take_back(table, 0, counts=counts)
    assert attempts == [1, 2, 3, 4]
    assert (last.state, last.forgiven) == ("dropped", 2)


def test_what_was_dropped_may_be_tried_anew_with_all_its_attempts() -> None:
    table = table_of(0, 1, max_attempts=1)
    for worker in "ab":
        grant(table, worker)
    take_back(table, 0)
    (again,) = table.dropped_anew()
    table.apply([again], 0)
    assert (again.state, again.forgiven) == ("waiting", 1)
    assert grant(table, "c").id == (7, 0, 2)
    assert take_back(table, 0).state == "dropped"


def test_attempts_count_over_a_restart() -> None:
    table = table_of(0, max_attempts=2)
    grant(table, "a")
    restarted = LeaseTable([take_back(table, 0)], 0, lease_seconds=LEASE, max_attempts=2)
    grant(restarted, "a")
    assert take_back(restarted, 0).state == "dropped"


def test_what_is_left_out_keeps_the_reason_that_it_had() -> None:
    table = table_of(0, 1, 2, 3)
    for worker in "abcd":
        done = grant(table, worker)
    table.apply([done._replace(state="done")], 0)
    take_back(table, 1)
    left = {standing.id.client: standing for standing in table.left_out("late")}
    assert {client: (s.state, s.worker, s.reason) for client, s in left.items()} == {
        0: ("dropped", "a", "late"),
        1: ("dropped", "b", "why"),
        2: ("dropped", "c", "late"),
    }


# ---- when most are silent at once, it is probably us


@pytest.mark.parametrize(
    ("silent", "alive", "grace"),
    [("a", "", True), ("ab", "c", True), ("abc", "def", False), ("ab", "cd", False), ("a", "b", False)],
)
def test_leases_outlast_a_silence_of_most_workers_by_one_lease_time(silent: str, alive: str, grace: bool) -> None:
    table = table_of(*range(len(silent)))
    for worker in silent:
        grant(table, worker)
    everyone = list(range(len(silent)))
    heard = dict.fromkeys(silent, 0.0)
    assert expired(table, LEASE, heard | dict.fromkeys(alive, LEASE)) == ([] if grace else everyone)
    assert expired(table, 2 * LEASE, heard | dict.fromkeys(alive, 2 * LEASE)) == everyone


def test_the_grace_is_over_when_the_others_are_back() -> None:
    table = table_of(0, 1, 2)
    for worker in "abc":
        grant(table, worker)
    heard = dict.fromkeys("abc", 0.0)
    assert expired(table, 12, heard) == []
    for worker in "bc":
        table.renew(WorkerId(worker), 13)
    assert expired(table, 13, heard | {"b": 13.0, "c": 13.0}) == [0]


def test_workers_that_left_long_ago_do_not_count_as_silent() -> None:
    table = table_of(0)
    grant(table, "a", now=50)
    gone = dict.fromkeys("wxyz", 0.0)
    assert expired(table, 60, gone | {"a": 50.0, "b": 60.0}) == [0]


def test_after_a_restart_its_holders_silence_counts_from_then_on() -> None:
    standings = [Standing(AssignmentId(7, k, 1), "leased", WorkerId(worker)) for k, worker in enumerate("abc")]
    table = LeaseTable(standings, 100, lease_seconds=LEASE, max_attempts=3)
    assert expired(table, 110, {}) == []
    assert expired(table, 120, {}) == [0, 1, 2]


def test_a_holder_that_lives_but_lost_its_lease_is_no_silence() -> None:
    table = table_of(0)
    grant(table, "a")
    assert expired(table, LEASE, {"a": LEASE}) == [0]


def test_when_to_look_again() -> None:
    table = table_of(0, 1)
    assert table.next_expiry(0) == float("inf")
    grant(table, "a", now=0)
    grant(table, "b", now=4)
    assert table.next_expiry(9) == 10
    assert table.next_expiry(10) == 14  # the first is in its grace, until 20
    assert table.next_expiry(15) == 20


# ---- ids


@pytest.mark.parametrize("text", ["r1-c2-a3", "r999999999-c0-a1"])
def test_an_id_is_read_as_it_was_written(text: str) -> None:
    assert str(AssignmentId.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "r1-c2", "r1-c2-a3 ", "r1-c2-a3\n", "r-1-c2-a3", "r1-c2-a3/../x", "r1234567890-c2-a3", "r١-c2-a3"]
)
def test_anything_else_is_no_id(text: str) -> None:
    assert AssignmentId.parse(text) is None
