"""What a worker has in hand of a stack: begun together, when all of it that comes has come."""

from collections.abc import Iterator

import pytest
import torch

from lotteryfl.client.leases import Lease, Leases, group_of
from lotteryfl.client.limits import Limits, RefusedError, check_place
from lotteryfl.client.work.handover import Ready
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.bench import tiny_experiment


def lease(client: int, first: int | None = None, round_: int = 1) -> Lease:
    stack = None if first is None else pb.Stack(rows=3, row=client - first, first=first)
    assignment = pb.Assignment(assignment_id=f"r{round_}-c{client}-a1", round=round_, client=client, stack=stack)
    return Lease(assignment, Ready({}, None, {}))


@pytest.fixture
def leases() -> Iterator[Leases]:
    held = Leases(2)
    yield held
    held.fail(KeyboardInterrupt())


def test_a_stack_begins_when_its_last_has_come(leases: Leases) -> None:
    first, second = lease(0, 0), lease(1, 0)
    leases.add(first, more=True)
    assert leases._next() == []
    leases.add(second)
    assert leases.begin() == [first, second]
    assert first.has_begun
    assert second.has_begun


def test_a_stack_begins_without_who_does_not_come(leases: Leases) -> None:
    first = lease(0, 0)
    leases.add(first, more=True)
    leases.gathered()
    assert leases.begin() == [first]


def test_a_stack_begins_without_who_is_lost_meanwhile(leases: Leases) -> None:
    first, second = lease(0, 0), lease(1, 0)
    leases.add(first, more=True)
    leases.lose([first.id])
    leases.add(second)
    assert leases.begin() == [second]


def test_stacks_are_begun_one_after_the_other_and_are_two_in_hand(leases: Leases) -> None:
    members = [lease(0, 0), lease(1, 0), lease(3, 3), lease(4, 3)]
    for number, each in enumerate(members):
        assert leases.wait_for_room()
        leases.add(each, more=number % 2 == 0)
    assert not leases._has_room
    assert leases.begin() == members[:2]
    for each in members[:2]:
        leases.end(each)
    assert leases._has_room
    assert leases.begin() == members[2:]


def test_progress_of_a_stack_is_everybodys(leases: Leases) -> None:
    both = [lease(0, 0), lease(1, 0)]
    for each in both:
        each.note(2, 7, torch.tensor(0.5))
    assert [each.progress().step for each in both] == [7, 7]


@pytest.mark.parametrize(("row", "rows", "most"), [(2, 2, 4), (0, 5, 4), (0, 0, 4), (0, 1, 0)])
def test_a_place_that_there_is_not_is_refused(row: int, rows: int, most: int) -> None:
    plan = pb.Plan(train=pb.Plan.Train(epochs=1))
    assignment = pb.Assignment(assignment_id="r1-c0-a1", plan=plan, stack=pb.Stack(rows=rows, row=row))
    experiment = tiny_experiment(engine={"stacked": most})
    with pytest.raises(RefusedError, match=f"stack = 'row {row} of {rows}': expected one of at most {most}"):
        Limits().check_assignment(assignment, experiment, None)
    assignment.stack.CopyFrom(pb.Stack(rows=4, row=3))
    Limits().check_assignment(assignment, tiny_experiment(engine={"stacked": 4}), None)


def test_more_than_a_stack_has_rows_cannot_come() -> None:
    plan = pb.Plan(train=pb.Plan.Train(epochs=1))
    assignment = pb.Assignment(assignment_id="r1-c0-a1", plan=plan, stack=pb.Stack(rows=3, more=3))
    experiment = tiny_experiment(engine={"stacked": 4})
    with pytest.raises(RefusedError, match=r"stack\.more = 3: expected less than its 3 rows"):
        Limits().check_assignment(assignment, experiment, None)
    assignment.stack.more = 2
    Limits().check_assignment(assignment, experiment, None)


def test_a_row_is_one_clients_and_a_stack_has_one_size(leases: Leases) -> None:
    leases.add(lease(1, 0), more=True)
    stack = pb.Stack(rows=3, row=1)
    other = pb.Assignment(assignment_id="r1-c2-a1", round=1, client=2, stack=stack)
    beside = [each.assignment for each in leases.not_begun(group_of(other))]
    with pytest.raises(RefusedError, match="stack = 'row 1': expected another than that of r1-c1-a1"):
        check_place(other, beside)
    other.stack.row, other.stack.rows = 3, 4
    with pytest.raises(RefusedError, match="stack = '4 rows': expected 3, as for r1-c1-a1"):
        check_place(other, beside)
    other.stack.row, other.stack.rows = 2, 3
    check_place(other, beside)


def test_of_two_attempts_of_a_client_the_older_is_lost(leases: Leases) -> None:
    """It was withdrawn, and the worker has not been told yet."""
    older, newer = lease(1, 0), lease(1, 0)
    leases.add(older, more=True)
    check_place(newer.assignment, [older.assignment])
    leases.add(newer)
    assert leases.begin() == [newer]
