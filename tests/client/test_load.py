"""What a worker says that it takes: of this very process."""

import torch

from lotteryfl.client.load import Load
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.told.load import load_of

BLOCK = 256 << 20


def test_steps_are_those_since_it_was_asked_last_and_memory_is_what_is_held_now() -> None:
    load = Load(torch.device("cpu"))
    for _ in range(5):
        load.step()
    first = load.told()
    assert first.steps_per_second > 0
    held = torch.ones(BLOCK // 4)
    second = load.told()
    assert second.steps_per_second == 0
    assert second.memory >= first.memory + BLOCK // 2
    assert (first.device_memory, second.device_memory) == (0, 0)
    del held
    assert load.told().memory < second.memory - BLOCK // 2
    assert load_of(pb.HeartbeatRequest(load=second)) == second
