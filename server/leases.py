"""Who works on what, and until when: leases over the assignments of one round. The clock is passed in."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple, Self

_LOOK_AHEAD = 1000
"""Waiting assignments among which a worker's own clients are looked for."""


class AssignmentId(NamedTuple):
    """Names one attempt at one client's work in one round: a fencing token."""

    round: int
    client: int
    attempt: int

    def __str__(self) -> str:
        return f"r{self.round}-c{self.client}-a{self.attempt}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the id that `str` wrote; None for anything else."""
        match = re.fullmatch(r"r(\d{1,9})-c(\d{1,9})-a(\d{1,9})", text, re.ASCII)
        return cls(*map(int, match.groups())) if match else None


@dataclass(frozen=True)
class Lease:
    """One worker's right to one attempt, until it expires."""

    id: AssignmentId
    worker: str
    expires: float


class LeaseTable:
    """The unsettled assignments of a round: waiting or leased. Pure memory: the caller makes grants durable."""

    def __init__(self, round_: int, lease_seconds: float) -> None:
        self._round = round_
        self._lease_seconds = lease_seconds
        self._waiting: dict[int, int] = {}  # client -> attempts so far; in order of service
        self._leases: dict[int, Lease] = {}

    def add(self, client: int, attempt: int) -> None:
        """Put a client's assignment at the end of the waiting; `attempt` counts the leases it was given."""
        self._waiting[client] = attempt

    def restore(self, id_: AssignmentId, worker: str, now: float) -> None:
        """Bring back a lease from before a restart, for a whole lease time from now."""
        self._leases[id_.client] = Lease(id_, worker, now + self._lease_seconds)

    def grant(
        self, worker: str, clients: Collection[int] | None, now: float, homes: Mapping[int, str] | None = None
    ) -> Lease | None:
        """Lease a waiting assignment among the worker's clients (None: of any client).

        Among the first in line a worker gets a client that it served last, whose mask and data it has; else one
        that nobody has served; else any. A worker does one thing at a time: what it holds already, its last fetch
        did not bring, and it gets again.

        Args:
            worker: who asks.
            clients: whose data it holds.
            now: the time.
            homes: by client, the worker that served it last.
        """
        for lease in self._leases.values():
            if lease.worker == worker:
                self.renew(lease.id, worker, now)
                return lease
        client = _closest(islice(self.waiting(clients), _LOOK_AHEAD), worker, homes or {})
        if client is None:
            return None
        id_ = AssignmentId(self._round, client, self._waiting.pop(client) + 1)
        self._leases[client] = Lease(id_, worker, now + self._lease_seconds)
        return self._leases[client]

    def waiting(self, clients: Collection[int] | None) -> Iterator[int]:
        """Yield the waiting clients among these (None: all), in order of service."""
        return (client for client in self._waiting if clients is None or client in clients)

    def held(self, id_: AssignmentId, worker: str) -> Lease | None:
        """Return the lease with this id if it stands and is this worker's."""
        lease = self._leases.get(id_.client)
        return lease if lease is not None and (lease.id, lease.worker) == (id_, worker) else None

    def renew(self, id_: AssignmentId, worker: str, now: float) -> bool:
        """Extend a lease; False where it is not this worker's (any more)."""
        lease = self.held(id_, worker)
        if lease is None:
            return False
        self._leases[id_.client] = replace(lease, expires=now + self._lease_seconds)
        return True

    def settle(self, client: int) -> None:
        """Take out a leased assignment: it is done or given up."""
        del self._leases[client]

    def take_back(self, client: int) -> None:
        """Put a leased assignment at the head of the waiting."""
        lease = self._leases.pop(client)
        self._waiting = {client: lease.id.attempt} | self._waiting

    def expired(self, now: float) -> list[Lease]:
        """Return the leases whose time is over."""
        return [lease for lease in self._leases.values() if lease.expires <= now]

    def leases(self) -> list[Lease]:
        """Return all leases, the oldest first."""
        return list(self._leases.values())

    def __len__(self) -> int:
        """Return how many assignments are not settled."""
        return len(self._waiting) + len(self._leases)


def _closest(clients: Iterable[int], worker: str, homes: Mapping[int, str]) -> int | None:
    """Return the first client at home with the worker, else the first at home nowhere, else the first."""
    ranked = ((0 if homes.get(client) == worker else 1 if client not in homes else 2, client) for client in clients)
    best: tuple[int, int] | None = None
    for rank, client in ranked:
        if best is None or rank < best[0]:
            best = rank, client
        if rank == 0:
            break
    return None if best is None else best[1]
