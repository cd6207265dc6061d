"""A lease beside the one under work: how many, and whose attempts they cost."""

from lotteryfl.common.names import WorkerId
from lotteryfl.server.rounds.leases import LeaseTable
from lotteryfl.server.store.assignments import Standing
from tests.support.leasing import EVERYONE, LEASE, A, B, C, D, expired, grant, table_of, take_back


def two_leases(table: LeaseTable, worker: str = "a") -> tuple[Standing, Standing]:
    """What a worker is at, and what it has ahead."""
    first = grant(table, worker)
    second = table.grant(WorkerId(worker), None, has=[str(first.id)])
    assert second is not None
    table.apply([second], 0.0)
    return first, second


def test_a_worker_gets_another_beside_what_it_says_that_it_has_up_to_the_bound() -> None:
    table = table_of(0, 1, 2, at_once=2)
    first, second = two_leases(table)
    assert (first.id, second.id, second.forgiven) == ((7, 0, 1), (7, 1, 1), 1)
    assert table.grant(A, None, has=[str(first.id), str(second.id)]) is None
    assert table.grant(A, None, has=[str(first.id)]) == second, "it did not reach its worker"
    assert table.grant(A, None) == first, "who names nothing has nothing"
    one = table_of(0, 1, at_once=1)
    held = grant(one, "a")
    assert one.grant(A, None, has=[str(held.id)]) is None


def test_of_two_leases_of_a_lost_worker_the_one_under_work_alone_has_cost_an_attempt() -> None:
    table = table_of(0, 1, max_attempts=1, at_once=2)
    two_leases(table)
    under_work, ahead = table.expired(LEASE, EVERYONE)
    assert (under_work.state, ahead.state, ahead.forgiven) == ("dropped", "waiting", 1)


def test_what_was_ahead_counts_from_when_the_work_before_it_is_over() -> None:
    table = table_of(0, 1, max_attempts=1, at_once=2)
    first, second = two_leases(table)
    done, following = table.with_next([first._replace(state="done")])
    assert (done.state, following) == ("done", second._replace(forgiven=0))
    table.apply([done, following], 0)
    assert take_back(table, 1).state == "dropped"


def test_a_result_on_its_way_says_that_the_next_has_begun() -> None:
    table = table_of(0, 1, 2, max_attempts=1, at_once=2)
    first, second = two_leases(table)
    table.send(second.id)
    table.returning(first.id)
    assert take_back(table, 1).state == "waiting", "it had not arrived"
    first, second = two_leases(table, "b")
    table.returning(first.id)
    assert table.grant(C, None) is None, "what has begun is not withdrawn"
    assert take_back(table, second.id.client).state == "dropped"


def test_who_has_nothing_to_do_gets_what_another_has_not_begun() -> None:
    table = table_of(0, 1, 2, 3, 4, at_once=2)
    two_leases(table, "a")
    first, second = two_leases(table, "b")
    assert grant(table, "c").id == (7, 4, 1), "what waits comes first"
    assert table.grant(C, None, has=["r7-c4-a1"]) is None, "nobody loses what is ahead to who has work"
    assert table.grant(D, {0, 2}) is None, "nor what is under work"
    withdrawn = grant(table, "d")
    assert (withdrawn.id, withdrawn.forgiven) == ((7, 3, 2), 1)
    assert table.held(second.id, B) is None
    assert table.held(first.id, B) == first
    assert table.grant(WorkerId("e"), {3}) is None, "it goes from hand to hand once"
    assert table.grant(WorkerId("e"), {1}).id == (7, 1, 2)  # type: ignore[union-attr]


def test_what_ends_its_workers_costs_an_attempt_the_second_time_at_the_latest() -> None:
    table = table_of(0, 1, 2, max_attempts=1, at_once=2)
    two_leases(table)
    table.apply(table.expired(LEASE, EVERYONE), LEASE)
    first = grant(table, "b", {2})
    assert table.grant(B, {1}, has=[str(first.id)]) is None, "not ahead of a worker once more"
    table.apply([first._replace(state="done")], LEASE)
    assert grant(table, "b").id == (7, 1, 2)
    assert take_back(table, 1).state == "dropped"


def test_who_had_an_assignment_ahead_has_not_failed_at_it() -> None:
    table = table_of(0, 1, at_once=2, max_attempts=4)
    a, b = map(WorkerId, ("a:1", "b:1"))
    two_leases(table, a)
    table.apply([table.taken_back(client, "gone") for client in (0, 1)], 0.0)
    peers = {a: None, b: None}
    assert table.grant(a, {0}, None, peers) is None, "a peer has not tried it"
    assert table.grant(a, {1}, None, peers) is not None


def test_both_leases_end_together() -> None:
    table = table_of(0, 1, at_once=2)
    first = grant(table, "a", now=0)
    second = table.grant(A, None, has=[str(first.id)])
    assert second is not None
    table.apply([second], 6.0)
    assert {lease.expires for lease in table.leases()} == {6.0 + LEASE}, "it was heard of when it asked"
    table.renew(A, 7.0)
    assert expired(table, 16.9) == []
    assert expired(table, 17.0) == [0, 1]
