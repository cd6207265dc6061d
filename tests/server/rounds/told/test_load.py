"""What a worker says that it takes: checked before anybody is told of it."""

from typing import Any

import pytest

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.told.load import load_of


def beat(**load: Any) -> pb.HeartbeatRequest:
    return pb.HeartbeatRequest(worker_id="w:1", load=pb.WorkerLoad(**load))


def test_it_is_as_the_worker_says() -> None:
    assert load_of(pb.HeartbeatRequest(worker_id="w:1")) is None  # as older workers have it
    assert load_of(beat()) == pb.WorkerLoad()
    whole: dict[str, Any] = {"memory": 3 << 30, "device_memory": 80 << 30, "steps_per_second": 250.5}
    assert load_of(beat(**whole)) == pb.WorkerLoad(**whole)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"memory": 1 << 51}, "^load.memory 2251799813685248: expected at most 1125899906842624 bytes$"),
        ({"device_memory": 1 << 51}, "^load.device_memory 2251799813685248: expected"),
        ({"steps_per_second": -1.0}, r"^load.steps_per_second -1: expected a number from 0 to 1e\+09$"),
        ({"steps_per_second": float("nan")}, "^load.steps_per_second nan: expected"),
        ({"steps_per_second": float("inf")}, "^load.steps_per_second inf: expected"),
    ],
)
def test_what_cannot_be_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_of(beat(**said))
