"""What a worker has in hand when the run ends, or when what was to come does not: no process of its own is needed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
import torch

from lotteryfl.client.blobs import Content
from lotteryfl.client.connection import Connection
from lotteryfl.client.counted import Counted
from lotteryfl.client.fetching import Fetching
from lotteryfl.client.heartbeat import Heartbeat
from lotteryfl.client.leases import Leases
from lotteryfl.client.limits import Limits
from lotteryfl.client.load import Load
from lotteryfl.client.overseer import Overseer
from lotteryfl.client.returning import Returning
from lotteryfl.client.work.assignment import AssignmentRunner
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.names import Digest, WorkerId
from lotteryfl.common.security.channel import PROTOCOL_VERSION
from lotteryfl.common.tasks import load_task
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.handworker import INCARNATION
from tests.support.runs import Coordinate, Write
from tests.support.waiting import DEADLINE, PROMPT, until


class Hand(NamedTuple):
    """A worker without its loop: what it has in hand, and who fetches, does and returns that."""

    leases: Leases
    runner: AssignmentRunner
    returning: Returning


def nothing(*_: object) -> None:
    pass


@contextmanager
def hand(server: CoordinatorThread, check: Callable[[pb.Assignment], None] = nothing) -> Iterator[Hand]:
    """Register and have the threads run; `check` is told of what arrives."""
    with Connection(server.address, patience=1.0) as connection:
        request = pb.RegisterRequest(protocol=PROTOCOL_VERSION, name="w", incarnation=INCARNATION, device="cpu")
        registration = connection.register(request)
        worker_id, leases = WorkerId(registration.worker_id), Leases(2)
        experiment, table = Limits().check_registration(registration)
        content = Content(connection, table, worker_id, Digest(registration.initial_digest))
        task = load_task(experiment, (server.task,))
        runner = AssignmentRunner(task, experiment, table, content.initial, torch.device("cpu"))
        counted = Counted()
        load = Load(torch.device("cpu"), counted)
        pulse = Heartbeat(connection, worker_id, leases, registration.lease_seconds, nothing, load)
        returning = Returning(connection, worker_id, leases, content, pulse, str, Overseer(), counted)
        fetching = Fetching(connection, worker_id, leases, content, runner, returning, check, nothing, nothing)
        with pulse, returning, fetching:
            yield Hand(leases, runner, returning)


def test_the_result_of_a_run_that_failed_is_not_returned(write: Write, coordinate: Coordinate) -> None:
    """The coordinator is gone by then, and who looked for it would say so instead."""
    server = coordinate(write(clients=1, clients_per_round=1, round={"lease": 1.0, "deadline": 1.0, "retries": 0}))
    with hand(server) as (leases, runner, returning):
        (lease,) = leases.begin()
        outcome = runner.follow(lease.assignment, lease.take_ready())
        assert server.ended().startswith("the run failed: round 1: 0 of 1 results")
        until(lambda: not leases.wait_for_room(), PROMPT)
        returning.result(lease, outcome)
        with pytest.raises(LotteryFLError, match="the run failed: round 1: 0 of 1 results"):
            leases.begin()
    assert lease.is_lost


def test_what_there_is_of_a_stack_waits_for_no_poll(write: Write, coordinate: Coordinate) -> None:
    """Of its three clients two are given up while the first arrives."""

    def give_up(assignment: pb.Assignment) -> None:
        for client in {0, 1, 2} - {assignment.client}:
            failure = pb.Result(worker_id=f"w:{INCARNATION}", assignment_id=f"r1-c{client}-a1", failure=pb.Failure())
            server.stub.SubmitResult(iter([pb.ResultPart(result=failure)]), timeout=DEADLINE)

    server = coordinate(write(clients=3, clients_per_round=3, engine={"stacked": 3}, round={"max_attempts": 1}))
    with hand(server, give_up) as (leases, _, _):
        until(lambda: bool(leases._next()), PROMPT)
        assert len(leases.begin()) == 1
