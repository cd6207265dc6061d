"""Who trains with whom as one model, and that a stack is leased, taken back and begun as one."""

import pytest

from lotteryfl.common.names import Digest, FileName, WorkerId
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.leases import LeaseTable
from lotteryfl.server.rounds.stacks import Place, places, stacked
from lotteryfl.server.store.assignments import AssignmentId, Standing
from lotteryfl.server.store.rundb.rows import AssignmentRow

A, B = map(WorkerId, ("a:1", "b:1"))
SHORT, LONG = pb.Plan(train=pb.Plan.Train(epochs=1)), pb.Plan(train=pb.Plan.Train(epochs=2))
SALIENCY = pb.Plan(measure_saliency=True)


def row(client: int, plan: pb.Plan) -> AssignmentRow:
    return AssignmentRow(1, client, plan, Digest(""), FileName("model.safetensors"))


def test_clients_with_the_same_plan_are_stacked_in_client_order() -> None:
    measuring = pb.Plan(train=SHORT.train, measure_shared=True)
    plans = {5: SHORT, 0: measuring, 1: SHORT, 2: LONG, 3: SHORT, 4: LONG, 6: SALIENCY}
    found = {each.client: each.stack for each in stacked((row(k, plan) for k, plan in plans.items()), 3)}
    assert found == {0: 0, 1: 0, 2: 2, 3: 0, 4: 2, 5: 5, 6: None}


def test_without_stacks_assignments_stay_in_their_order() -> None:
    rows = [row(2, SHORT), row(0, SHORT)]
    assert list(stacked(rows, 0)) == rows


def test_a_place_says_how_many_rows_there_are_and_which_is_whose() -> None:
    rows = list(stacked((row(client, SHORT) for client in range(5)), 3))
    assert places(rows) == {
        0: Place(0, 3, 0),
        1: Place(0, 3, 1),
        2: Place(0, 3, 2),
        3: Place(3, 2, 0),
        4: Place(3, 2, 1),
    }


def table_of(clients: int, stacks: dict[int, int], at_once: int = 2, max_attempts: int = 2) -> LeaseTable:
    standings = (Standing(AssignmentId(1, client, 0)) for client in range(clients))
    return LeaseTable(standings, 0.0, lease_seconds=10, max_attempts=max_attempts, at_once=at_once, stacks=stacks)


def lease(table: LeaseTable, worker: WorkerId, has: list[str], clients: set[int] | None = None) -> list[Standing]:
    granted = table.grant(worker, clients, has=has)
    if granted is None:
        return []
    leased = table.with_its_stack(granted, clients)
    table.apply(leased, 0.0)
    return leased


STACKS = {0: 0, 1: 0, 2: 0, 3: 3, 4: 3}


def test_a_stack_is_leased_as_one_and_comes_one_after_the_other() -> None:
    table = table_of(6, STACKS)
    first, *others = lease(table, A, [])
    assert [first.id.client, *(each.id.client for each in others)] == [0, 1, 2]
    assert table.more(first, []) == 2
    has = [str(first.id)]
    for expected in (1, 2):
        (again,) = lease(table, A, has)
        has.append(str(again.id))
        assert (again.id.client, table.more(again, has)) == (expected, 2 - expected)
    assert [each.id.client for each in lease(table, A, has)] == [3, 4], "one stack beside another"
    assert lease(table, A, [*has, "r1-c3-a1", "r1-c4-a1"]) == []
    assert [each.id.client for each in lease(table, B, [])] == [5], "who is in no stack goes alone"


def test_what_is_ahead_begins_when_all_of_the_stack_before_it_is_over() -> None:
    table = table_of(5, STACKS)
    before = lease(table, A, [])
    lease(table, A, [str(each.id) for each in before])
    assert [table[client].forgiven for client in (3, 4)] == [1, 1], "it has not begun"
    for done in before:
        table.apply(table.with_next([done._replace(state="done")]), 0.0)
        begun = done is before[-1]
        assert [table[client].forgiven for client in (3, 4)] == [0 if begun else 1] * 2


def test_a_stack_expires_as_one_and_waits_again_without_who_is_done() -> None:
    table = table_of(3, STACKS, max_attempts=3)
    leased = lease(table, A, [])
    table.apply(table.with_next([leased[1]._replace(state="done")]), 0.0)
    expired = table.expired(11.0, {A: 0.0, B: 11.0})
    assert [(each.id.client, each.state) for each in expired] == [(0, "waiting"), (2, "waiting")]
    table.apply(table.with_next(expired), 11.0)
    assert [str(each.id) for each in lease(table, B, [])] == ["r1-c2-a2", "r1-c0-a2"]


def test_of_a_stack_a_worker_gets_the_clients_that_it_holds() -> None:
    table = table_of(3, STACKS)
    assert [each.id.client for each in lease(table, A, [], {1, 2})] == [1, 2]
    assert [each.id.client for each in lease(table, B, [])] == [0]


def test_a_stack_ahead_of_one_worker_is_withdrawn_as_one() -> None:
    table = table_of(5, STACKS)
    has = [str(each.id) for each in lease(table, A, [])]
    assert len(lease(table, A, has)) == 2
    taken = lease(table, B, [])
    assert sorted(str(each.id) for each in taken) == ["r1-c3-a2", "r1-c4-a2"]
    assert {each.worker for each in taken} == {B}


@pytest.mark.parametrize("attempts", [1, 2])
def test_who_fails_of_a_stack_fails_alone(attempts: int) -> None:
    table = table_of(3, STACKS, max_attempts=attempts)
    leased = lease(table, A, [])
    table.apply([table.taken_back(leased[1].id.client, "its data is gone", has_begun=True)], 0.0)
    assert table[1].state == ("dropped" if attempts == 1 else "waiting")
    assert [table[client].state for client in (0, 2)] == ["leased", "leased"]


def test_the_last_attempt_after_others_is_each_clients_own() -> None:
    table = table_of(5, STACKS, max_attempts=3)
    for _ in range(2):
        leased = lease(table, A, [])
        assert sorted(each.id.client for each in leased) == [0, 1, 2]
        table.apply([table.taken_back(each.id.client, "it failed", has_begun=True) for each in leased], 0.0)
    (alone,) = lease(table, A, [])
    assert table.more(alone, []) == 0
    has = [str(alone.id)]
    ahead = lease(table, A, has)
    assert [each.id.client for each in ahead] == [3, 4], "not another of the same stack, beside it"
    (other,) = lease(table, B, [])
    assert {alone.id.client, other.id.client} < {0, 1, 2}
    table.apply(table.with_next([table.taken_back(alone.id.client, "it failed", has_begun=True)]), 0.0)
    assert table[alone.id.client].state == "dropped"
    assert table[other.id.client].state == "leased"
