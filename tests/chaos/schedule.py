"""Which faults happen to whom: at every named point all that can happen there, and random ones from outside."""

from collections.abc import Sequence
from random import Random

from lotteryfl.common.faults import COORDINATOR_POINTS, SETUP_POINTS, WORKER_POINTS, Fault
from tests.chaos.cluster import COORDINATOR, Outside

_ANYWHERE = ("die", "stop", "delay", "cut")
_CAN_FAIL = (
    *("lease-writing", "result-recording", "round-committing"),
    *(f"{folder}-{step}" for folder in ("results", "masks", "models") for step in ("written", "synced")),
    *("chunk-first-sent", "chunk-middle-sent", "chunk-last-sent"),
)
"""Points in the coordinator at which a disk may be full or broken."""

_DONE_BUT = ("lease-written", "chunk-last-sent", "result-recorded", "ack-sending")
"""Points in the coordinator after which a call can fail though its work has been done."""


def coordinator_faults() -> list[Fault]:
    """Return every point of the coordinator with everything that can happen there; to die is to lose power."""
    found = [(point, action) for point in COORDINATOR_POINTS for action in _ANYWHERE]
    found += [(point, "raise") for point in _CAN_FAIL] + [(point, "lose") for point in _DONE_BUT]
    found += [(point, "die") for point in SETUP_POINTS]
    faults = [Fault(*pair, 1) for pair in found]
    # The first model is θ_0, the second an aggregate.
    return faults + [fault._replace(passage=2) for fault in faults if fault.point.startswith("models-")]


def worker_faults() -> list[Fault]:
    """Return every point of a worker with everything that can happen there."""
    found = [(point, action) for point in WORKER_POINTS for action in _ANYWHERE]
    return [Fault(*pair, 1) for pair in [*found, ("ack-received", "lose")]]


def outside_faults(count: int, workers: Sequence[str], random: Random) -> list[Outside]:
    """Return random faults from outside."""
    members = [COORDINATOR, *workers]
    found = []
    for _ in range(count):
        victim = random.choice(members)
        kinds = ("kill", "term", "stop") if victim == COORDINATOR else ("kill", "term", "stop", "cut", "cut", "stall")
        found.append(Outside(victim, random.choice(kinds)))
    return found
