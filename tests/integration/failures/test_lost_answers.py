"""Done, but the caller sees an error: what was counted stays counted, and nobody waits for who has gone."""

import grpc
import pytest

from lotteryfl.common import faults
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.handworker import HandWorker
from tests.support.runs import Coordinate, Write
from tests.support.waiting import until


def committed(server: CoordinatorThread) -> int:
    """Return the rounds that are committed, as far as can be told; asking changes nothing."""
    try:
        return int(server.stub.GetRun(pb.GetRunRequest(), timeout=5, wait_for_ready=True).round)
    except grpc.RpcError:
        return 0  # the connection that was cut


@pytest.mark.parametrize("point", ["result-recorded", "ack-sending"])
def test_a_round_goes_on_when_nobody_is_there_to_be_told_of_its_last_result(
    point: str, coordinate: Coordinate, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease of 600 s, or a heartbeat that never comes, would wake it much later."""
    server = coordinate(write())
    monkeypatch.setattr(faults, "_plan", faults.Plan([faults.Fault(point, "lose", 3)]))
    worker = HandWorker(server)
    for _ in range(2):
        assert worker.submit(worker.work().messages()).verdict == pb.SubmitReply.ACCEPTED
    last = worker.work()
    with pytest.raises(grpc.RpcError) as failure:
        worker.submit(last.messages())
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    until(lambda: committed(server) > 0)
    assert worker.submit(last.messages()).verdict == pb.SubmitReply.DUPLICATE
