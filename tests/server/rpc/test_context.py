"""What is known of a call by its first message."""

from contextvars import copy_context

import pytest
from google.protobuf.message import Message

from lotteryfl.common.telemetry.about import bind, fields
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rpc.context import bind_call

REGISTER = pb.RegisterRequest(name="gpu-7", incarnation="a" * 32)
RESULT = pb.ResultPart(result=pb.Result(worker_id="gpu-7:abc", assignment_id="r2-c3-a1"))


@pytest.mark.parametrize(
    ("message", "known"),
    [
        (REGISTER, {"worker": "gpu-7"}),
        (pb.HeartbeatRequest(worker_id="gpu-7:abc"), {"worker": "gpu-7"}),
        (RESULT, {"worker": "gpu-7", "round": 2, "client": 3, "assignment": "r2-c3-a1"}),
        (pb.FetchBlobRequest(), {}),
        (pb.GetRunRequest(), {}),
    ],
)
def test_what_is_logged_of_a_call_says_whom_it_is_about(message: Message, known: dict[str, object]) -> None:
    def bound() -> dict[str, object]:
        bind(run="x")
        bind_call(message)
        return dict(fields())

    assert copy_context().run(bound) == {"run": "x", **known}
