"""A worker of its own process, as observers see it at work."""

from lotteryfl.protos import lotteryfl_pb2 as pb
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
