"""Who is there, who waits for whom, and for how long: what people are told of an open round. The clock is passed in."""

import logging
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from heapq import nsmallest
from itertools import islice
from typing import NamedTuple

from lotteryfl.common.names import WorkerId
from lotteryfl.common.security.identity import name_of
from lotteryfl.common.telemetry.about import about
from lotteryfl.common.text import printable
from lotteryfl.server.rounds.machine import UNKNOWN
from lotteryfl.server.rounds.openround import OpenRound
from lotteryfl.server.rounds.workers import WorkerRegistry
from lotteryfl.server.store.events import Events
from lotteryfl.server.store.named import MOST_TOLD, clients_named, cut
from lotteryfl.server.store.status import Seen, in_flight

_log = logging.getLogger("lotteryfl.coordinator.attendance")
"""Of a level of its own: its information is shown without `--verbose` too."""

_MOST_LEFT = 1000
"""Workers that are remembered when they have left."""

_LOOK_AHEAD = 1000
"""Waiting clients for which is looked whom they wait for."""

_MOST_KINDS = 10
"""Kinds of devices that a status counts workers by."""

_MOST_LOGGED = 10
"""Lines at once about who is lost, and who waits for whom."""


class _Gone(NamedTuple):
    """A worker that is not there."""

    text: str
    clients: Collection[int] | None
    """Whose data it holds; None: every client's."""
    since: float


class Attendance:
    """What is known of a round's workers, for people: nothing is decided by it."""

    def __init__(
        self, workers: WorkerRegistry, clock: Callable[[], float], events: Events, *, lease_seconds: float
    ) -> None:
        """Begin to look.

        Args:
            workers: that have registered.
            clock: seconds, from any start.
            events: of the run, which who comes and goes is put among.
            lease_seconds: silence after which a worker counts as lost.
        """
        self._events = events
        self._workers = workers
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._lost: set[WorkerId] = set()
        self._left: OrderedDict[str, _Gone] = OrderedDict()  # by name
        self._next_look = self._begin = clock() + lease_seconds  # before, nobody can be missed
        self._told: int | None = None  # the round of which was told who waits for workers that are gone

    # -- as log lines and events

    def joined(self, worker_id: WorkerId) -> None:
        """Note that a worker has registered."""
        worker = self._workers.known(worker_id)
        if worker is None:
            return
        held = "every client" if worker.clients is None else f"{len(worker.clients)} clients"
        on = f"on {worker.machine}, " if str(worker.machine) else ""
        self._events.remember("joined", f"{on}holds {held}", worker_id)

    def left(self, worker_id: WorkerId, reason: str) -> None:
        """Log that a worker has left; it is not yet forgotten."""
        name, worker = name_of(worker_id), self._workers.known(worker_id)
        if worker is None:
            return
        why = reason.removeprefix(f"{name}: ") or "it did not say why"
        _log.info("%s has left: %s", printable(name), printable(why))
        self._events.remember("left", why, worker_id)
        self._left[name] = _Gone(f"{name}, which has left", worker.clients, self._clock())
        self._left.move_to_end(name)
        if len(self._left) > _MOST_LEFT:
            self._left.popitem(last=False)
        self._told = None

    def look(self, round_: OpenRound) -> None:
        """Log who was lost or has come back since the last look, and which clients wait for whom that is gone."""
        now = self._clock()
        self._note_returns(now)
        if now >= self._next_look:
            self._note_losses(now)
        if self._told != round_.number and now >= self._begin:
            self._told = round_.number
            silent = (lease.id.client for lease in round_.assignments.leases() if not self._is_there(lease.worker, now))
            waiting = self._missed(round_, now, silent)
            for whom in list(waiting)[:_MOST_LOGGED]:
                clients = waiting[whom]
                _log.warning("%s; %s", printable(_wait_for(clients, whom)), self._goes_on(round_, now))
            if len(waiting) > _MOST_LOGGED:
                _log.warning("clients wait for %d more workers", len(waiting) - _MOST_LOGGED)

    def _note_returns(self, now: float) -> None:
        for worker_id in [each for each in self._lost if self._is_there(each, now)]:
            self._lost.discard(worker_id)
            with about(worker=name_of(worker_id)):
                _log.info("%s is back", printable(name_of(worker_id)))
            self._events.remember("back", "is heard of again", worker_id)

    def _note_losses(self, now: float) -> None:
        heard = self._workers.heard
        self._lost.intersection_update(heard)
        lost = [each for each in heard if each not in self._lost and not self._is_there(each, now)]
        for worker_id in lost[:_MOST_LOGGED]:
            name, silent = name_of(worker_id), now - heard[worker_id]
            with about(worker=name):
                _log.warning("%s is lost: not heard of for %.0f s", printable(name), silent)
        if len(lost) > _MOST_LOGGED:
            _log.warning("%d more workers are lost", len(lost) - _MOST_LOGGED)
        for worker_id in lost:
            self._events.remember("lost", f"not heard of for {now - heard[worker_id]:.0f} s", worker_id)
        self._lost.update(lost)
        if lost:
            self._told = None
        present = (moment for worker_id, moment in heard.items() if worker_id not in self._lost)
        self._next_look = min(present, default=now) + self._lease_seconds

    # -- in a status

    def seen(self, round_: OpenRound) -> Seen:
        """Return how it looks now."""
        now, heard = self._clock(), self._workers.heard
        table = round_.assignments
        alive = {name_of(each.worker_id): each.machine for each in self._workers.alive(now - self._lease_seconds)}
        longest_silent = nsmallest(MOST_TOLD, heard, key=heard.__getitem__)
        return Seen(
            in_flight=[
                in_flight(lease.id.client, lease.worker, self._workers.progress(lease.worker, str(lease.id)))
                for lease in table.leases()
            ],
            waits=list(self._waits(round_, now)),
            heard=cut(
                [f"{self._with_machine(each)} was {self._heard(each, now)}" for each in longest_silent],
                MOST_TOLD,
                len(heard),
            ),
            goes_on=self._goes_on(round_, now) if table.unsettled else "",
            workers=len(alive),
            machines=[alive[name].message(name) for name in nsmallest(MOST_TOLD, alive)],
            devices=dict(Counter(machine.kind for machine in alive.values()).most_common(_MOST_KINDS)),
        )

    def _with_machine(self, worker_id: WorkerId) -> str:
        worker = self._workers.known(worker_id)
        machine = str(worker.machine if worker else UNKNOWN)
        return f"{name_of(worker_id)} ({machine})" if machine else name_of(worker_id)

    def _waits(self, round_: OpenRound, now: float) -> Iterator[str]:
        """Yield who waits for whom: under a lease, for a worker that is gone, or for one to be free."""
        table = round_.assignments
        leases = table.leases()
        lines = [
            f"client {lease.id.client} waits for {name_of(lease.worker)}, {self._heard(lease.worker, now)}: "
            f"its lease ends in {max(0.0, lease.expires - now):.0f} s"
            for lease in nsmallest(MOST_TOLD, leases, key=lambda lease: lease.expires)
        ]
        yield from cut(lines, MOST_TOLD, len(leases))
        missed = self._missed(round_, now)
        yield from cut([_wait_for(clients, whom) for whom, clients in missed.items()], MOST_TOLD)
        without_worker = {client for clients in missed.values() for client in clients}
        others = table.count("waiting") - len(without_worker)
        if others:
            first = sorted(islice((c for c in table.waiting(None) if c not in without_worker), _LOOK_AHEAD))
            yield _wait_for(first, "a worker to be free", others)

    def _missed(self, round_: OpenRound, now: float, leased: Iterable[int] = ()) -> dict[str, list[int]]:
        """Return by worker that is gone the clients that nobody who is there may serve.

        Looked at are the first that wait in line, and these that are leased.
        """
        there = [worker for worker in self._workers.all() if self._is_there(worker.worker_id, now)]
        if any(worker.clients is None for worker in there):
            return {}
        held = {client for worker in there for client in worker.clients or ()}
        missed = [c for c in (*islice(round_.assignments.waiting(None), _LOOK_AHEAD), *leased) if c not in held]
        if not missed:
            return {}
        whom: dict[int, str] = {}
        of_all = ""
        for gone in sorted(self._gone(now), key=lambda gone: gone.since):  # in the end, who was there last
            if gone.clients is None:
                of_all, whom = gone.text, {}
            else:
                whom.update(dict.fromkeys(gone.clients, gone.text))
        found: dict[str, list[int]] = defaultdict(list)
        for client in sorted(missed):
            had = round_.assignments[client].worker
            nobody = (
                f"{name_of(had)}, which had it last and is not there"
                if had
                else "a worker: none that may do it is there"
            )
            found[whom.get(client, of_all) or nobody].append(client)
        return found

    def _gone(self, now: float) -> Iterator[_Gone]:
        for worker in self._workers.all():
            if not self._is_there(worker.worker_id, now):
                text = f"{name_of(worker.worker_id)}, {self._heard(worker.worker_id, now)}"
                yield _Gone(text, worker.clients, self._workers.heard[worker.worker_id])
        yield from self._left.values()

    def _is_there(self, worker_id: WorkerId, now: float) -> bool:
        return self._workers.heard.get(worker_id, -float("inf")) > now - self._lease_seconds

    def _heard(self, worker_id: WorkerId, now: float) -> str:
        moment = self._workers.heard.get(worker_id)
        return "not heard of since the coordinator began" if moment is None else f"heard of {now - moment:.0f} s ago"

    def _goes_on(self, round_: OpenRound, now: float) -> str:
        if round_.is_paused:
            return "no time passes for the round until the run is resumed"
        left, needed = round_.seconds_left(now), round_.still_needed
        if not needed:
            return f"the round goes on without who is missing in {left:.0f} s"
        more = f"{needed} more result{'s'[: needed > 1]}"
        return f"the round ends in {left:.0f} s: without {more} it is tried again, or the run fails"


def _wait_for(clients: list[int], whom: str, total: int | None = None) -> str:
    return f"{clients_named(clients, total)} {'wait' if len(clients) > 1 else 'waits'} for {whom}"
