"""A worker of its own process, as observers see it at work."""

import grpc

from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.handworker import HandWorker
from tests.support.looking import fails
from tests.support.processes import Gate
from tests.support.runs import Coordinate, Start, Write
from tests.support.waiting import DEADLINE, until


def test_a_worker_is_seen_with_its_machine_its_load_and_what_it_does(
    coordinate: Coordinate, write: Write, start: Start, gate: Gate
) -> None:
    server = coordinate(write(round={"lease": 1.5}))

    def fleet() -> pb.Fleet:
        answer: pb.Fleet = server.stub.GetFleet(pb.GetFleetRequest(), timeout=DEADLINE)
        return answer

    worker = start(
        *("work", "--coordinator", server.address, "--task", server.task, "--device", "cpu", "--name", "gpu-7"),
        env=gate.env,
    )
    client = gate.arrival().client
    until(lambda: fleet().workers[0].load.memory > 0)
    (seen,) = fleet().workers
    assert (seen.machine.worker, seen.machine.device, seen.holds_all, seen.is_lost) == ("gpu-7", "cpu", True, False)
    assert seen.load.memory > 50 << 20
    assert (seen.load.device_memory, seen.load.steps_per_second) == (0, 0)
    assert seen.silent < 1.5
    holding = seen.holdings[0]
    assert (holding.client, holding.attempt, holding.arrived) == (client, 1, True)
    assert 0 < holding.lease <= 1.5
    gate.open()
    assert worker.exit_code() == 0
    assert server.ended() == ""


def test_a_load_that_cannot_be_is_refused_and_the_last_one_stays(server: CoordinatorThread) -> None:
    worker = HandWorker(server)
    good = pb.WorkerLoad(memory=1 << 30, steps_per_second=3.5)
    server.stub.Heartbeat(pb.HeartbeatRequest(worker_id=worker.id, load=good), timeout=DEADLINE)
    bad = pb.HeartbeatRequest(worker_id=worker.id, load=pb.WorkerLoad(steps_per_second=float("nan")))
    error = fails(lambda: server.stub.Heartbeat(bad, timeout=DEADLINE))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.details() or "").startswith("load.steps_per_second nan: expected a number from 0 to")
    fleet = server.stub.GetFleet(pb.GetFleetRequest(), timeout=DEADLINE)
    assert [each.load for each in fleet.workers] == [good]
