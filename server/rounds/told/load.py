"""What a worker takes of its machine, as it says: for people to see; nothing is decided by it."""

import math

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.machine import MOST_MEMORY

_MOST_STEPS = 1e9


def load_of(request: pb.HeartbeatRequest) -> pb.WorkerLoad | None:
    """Return what a worker says that it takes; None: it does not say.

    Raises:
        ValueError: it cannot be so; the message names the field.
    """
    if not request.HasField("load"):
        return None
    load = request.load
    for name, nbytes in (("memory", load.memory), ("device_memory", load.device_memory)):
        if nbytes > MOST_MEMORY:
            raise ValueError(f"load.{name} {nbytes}: expected at most {MOST_MEMORY} bytes")
    steps = load.steps_per_second
    if not math.isfinite(steps) or not 0 <= steps <= _MOST_STEPS:
        raise ValueError(f"load.steps_per_second {steps:g}: expected a number from 0 to {_MOST_STEPS:g}")
    return load
