"""What every worker is at, as observers are told of it."""

import time
from collections import defaultdict
from collections.abc import Iterator
from operator import itemgetter

from lotteryfl.common.names import WorkerId
from lotteryfl.common.security.identity import name_of
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.leases import LeaseTable
from lotteryfl.server.rounds.ledger import Ledger
from lotteryfl.server.rounds.workers import Worker, WorkerRegistry
from lotteryfl.server.store.assignments import Lease

_MOST_BYTES = 3 << 20
"""Of the message: gRPC takes no longer one than 4 MiB."""


def fleet_of(workers: WorkerRegistry, ledger: Ledger, now: float, lease_seconds: float) -> pb.Fleet:
    """Return what every worker is at; it is looked at each worker and lease once, and at nothing on the disk.

    Args:
        workers: that have registered.
        ledger: whose open round they work on.
        now: the time.
        lease_seconds: silence after which a worker counts as lost.
    """
    table = ledger.round.assignments
    leases = defaultdict[WorkerId, list[Lease]](list)
    for lease in table.leases():
        leases[lease.worker].append(lease)
    found = [
        pb.WorkerStatus(
            machine=worker.machine.message(name_of(worker.worker_id)),
            holds_all=worker.clients is None,
            clients=len(worker.clients or ()),
            silent=(silent := now - workers.heard[worker.worker_id]),
            is_lost=silent >= lease_seconds,
            holdings=_holdings(worker, leases[worker.worker_id], table, now),
            load=worker.load,
        )
        for worker in workers.all()
    ]
    found += [
        pb.WorkerStatus(
            machine=pb.WorkerMachine(worker=refused.worker), aside=ledger.refusals.why_aside(refused.worker)
        )
        for refused in ledger.refusals.messages()
        if refused.aside
    ]
    found.sort(key=lambda status: status.machine.worker)
    told = _within(found)
    return pb.Fleet(workers=found[:told], round=ledger.round.number, time=time.time(), others=len(found) - told)


def _holdings(worker: Worker, leases: list[Lease], table: LeaseTable, now: float) -> Iterator[pb.Holding]:
    """Yield what a worker has, in the order in which it was given."""
    held = [(*table.held_as(lease), lease) for lease in leases]
    for since, arrived, returning, lease in sorted(held, key=itemgetter(0)):
        progress = worker.progress.get(str(lease.id), pb.AssignmentProgress())
        yield pb.Holding(
            client=lease.id.client,
            attempt=lease.id.attempt,
            epoch=progress.epoch,
            step=progress.step,
            loss=progress.loss,
            held=now - since,
            lease=max(0.0, lease.expires - now),
            arrived=arrived,
            returning=returning,
        )


def _within(found: list[pb.WorkerStatus]) -> int:
    """Return how many of the first travel in one message."""
    nbytes = 0
    for told, status in enumerate(found):
        nbytes += status.ByteSize() + 8  # its tag and length
        if nbytes > _MOST_BYTES:
            return told
    return len(found)
