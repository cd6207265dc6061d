"""A worker that outlives its coordinator must not work for whichever run comes next at the same address."""

import grpc
import pytest

from lotteryfl.common.security.channel import PROTOCOL_VERSION
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.handworker import INCARNATION
from tests.support.runs import Coordinate, Write
from tests.support.waiting import DEADLINE


def registration(run_id: str = "") -> pb.RegisterRequest:
    return pb.RegisterRequest(protocol=PROTOCOL_VERSION, name="w", incarnation=INCARNATION, device="cpu", run_id=run_id)


def test_a_worker_of_another_run_is_turned_away(coordinate: Coordinate, write: Write) -> None:
    path = write()
    one, other = coordinate(path, name="one"), coordinate(path, name="other")
    ids = {server.stub.Register(registration(), timeout=DEADLINE).run_id for server in (one, other)}
    assert len(ids) == 2  # though the experiment is the same
    own = one.stub.Register(registration(), timeout=DEADLINE).run_id
    assert one.stub.Register(registration(own), timeout=DEADLINE).worker_id == f"w:{INCARNATION}"
    with pytest.raises(grpc.RpcError) as failure:
        other.stub.Register(registration(own), timeout=DEADLINE)
    assert failure.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "another run is here now" in (failure.value.details() or "")
