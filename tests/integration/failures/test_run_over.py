"""A run that ends while a worker has work in hand: the work is in vain, and the worker says what the run came to."""

from pathlib import Path

import pytest
import torch

from lotteryfl.client.blobs import Content
from lotteryfl.client.connection import Connection
from lotteryfl.client.fetching import Fetching
from lotteryfl.client.heartbeat import Heartbeat
from lotteryfl.client.leases import Leases
from lotteryfl.client.limits import Limits
from lotteryfl.client.overseer import Overseer
from lotteryfl.client.returning import Returning
from lotteryfl.client.work.assignment import AssignmentRunner
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.names import Digest, WorkerId
from lotteryfl.common.security.channel import PROTOCOL_VERSION
from lotteryfl.common.tasks import load_task
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.handworker import INCARNATION
from tests.support.runs import Coordinate, Write
from tests.support.waiting import PROMPT, until


def nothing(*_: object) -> None:
    pass


def test_the_result_of_a_run_that_failed_is_not_returned(write: Write, coordinate: Coordinate) -> None:
    """The coordinator is gone by then, and who looked for it would say so instead."""
    path: Path = write(clients=1, clients_per_round=1, round={"lease": 1.0, "deadline": 1.0, "retries": 0})
    server = coordinate(path)
    with Connection(server.address, patience=1.0) as connection:
        request = pb.RegisterRequest(protocol=PROTOCOL_VERSION, name="w", incarnation=INCARNATION, device="cpu")
        registration = connection.register(request)
        worker_id, leases = WorkerId(registration.worker_id), Leases(2)
        experiment, table = Limits().check_registration(registration)
        content = Content(connection, table, worker_id, Digest(registration.initial_digest))
        task = load_task(experiment, (server.task,))
        runner = AssignmentRunner(task, experiment, table, content.initial, torch.device("cpu"))
        pulse = Heartbeat(connection, worker_id, leases, registration.lease_seconds, nothing)
        returning = Returning(connection, worker_id, leases, content, pulse, str, Overseer())
        fetching = Fetching(connection, worker_id, leases, content, runner, returning, nothing, nothing, nothing)
        with pulse, returning, fetching:
            (lease,) = leases.begin()
            outcome = runner.follow(lease.assignment, lease.take_ready())
            assert server.ended().startswith("the run failed: round 1: 0 of 1 results")
            until(lambda: not leases.wait_for_room(), PROMPT)
            returning.result(lease, outcome)
            with pytest.raises(LotteryFLError, match="the run failed: round 1: 0 of 1 results"):
                leases.begin()
        assert lease.is_lost
