"""One worker of several clients whose work takes its time: what is gained where the next one comes meanwhile."""

import os
from dataclasses import dataclass

from benchmarks import ballast
from benchmarks.harness import Row, Spread, times_less
from benchmarks.parts.assignments import served_rounds


@dataclass(frozen=True)
class Sizes:
    """How many clients of which model, and how often."""

    model: str
    clients: int
    rounds: int
    """The first starts everything up; the others are measured."""
    repeats: int


FULL = Sizes("11 M", clients=8, rounds=3, repeats=2)
QUICK = Sizes("20 k", clients=2, rounds=2, repeats=1)

WORK_SECONDS = (0.02, 0.2)
"""For which a device is at work, and no CPU."""


def rows(sizes: Sizes) -> list[Row]:
    """Seconds of an assignment by two leases beside one lease; what is left beyond the work cannot be hidden by it."""
    return [_row(sizes, seconds) for seconds in WORK_SECONDS]


def _row(sizes: Sizes, seconds: float) -> Row:
    os.environ[ballast.SECONDS] = str(seconds)
    try:
        found: dict[int, tuple[float, ...]] = {1: (), 2: ()}
        for _ in range(sizes.repeats):
            for leases in found:
                found[leases] += _of_an_assignment(sizes, leases)
    finally:
        del os.environ[ballast.SECONDS]
    label = f"assignment of {sizes.model} with {1000 * seconds:.0f} ms of work, 1 worker of {sizes.clients} clients"
    return times_less(label, Spread(found[2]), Spread(found[1]), "one lease", "s")


def _of_an_assignment(sizes: Sizes, leases: int) -> tuple[float, ...]:
    settings = {"lease": 600.0, "broadcasts": False, "leases": leases}
    rounds, _ = served_rounds(sizes.model, sizes.clients, 1, sizes.rounds, round=settings)
    return tuple(seconds / sizes.clients for seconds in rounds.values)
