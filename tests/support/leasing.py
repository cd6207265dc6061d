"""A table of leases with short words for what happens to it."""

from lotteryfl.common.names import WorkerId
from lotteryfl.server.rounds.leases import LeaseTable
from lotteryfl.server.store.assignments import AssignmentId, Standing

LEASE = 10.0
A, B, C, D = map(WorkerId, "abcd")
EVERYONE = dict.fromkeys(map(WorkerId, "abcdef"), 1e9)
"""Workers that have all been heard of lately."""


def table_of(*clients: int, now: float = 0.0, max_attempts: int = 3, at_once: int = 1) -> LeaseTable:
    standings = (Standing(AssignmentId(7, client, 0)) for client in clients)
    return LeaseTable(standings, now, lease_seconds=LEASE, max_attempts=max_attempts, at_once=at_once)


def grant(table: LeaseTable, worker: str, clients: set[int] | None = None, now: float = 0.0) -> Standing:
    granted = table.grant(WorkerId(worker), clients)
    assert granted is not None
    table.apply([granted], now)
    return granted


def fail(table: LeaseTable, standing: Standing) -> None:
    table.apply([table.taken_back(standing.id.client, "failed")], 0.0)


def expired(table: LeaseTable, now: float, heard: dict[str, float] | None = None) -> list[int]:
    known = EVERYONE if heard is None else {WorkerId(worker): at for worker, at in heard.items()}
    return [standing.id.client for standing in table.expired(now, known)]


def take_back(table: LeaseTable, client: int, *, counts: bool = True) -> Standing:
    standing = table.taken_back(client, "why", counts=counts)
    table.apply([standing], 0)
    return standing
