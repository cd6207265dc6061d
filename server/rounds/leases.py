"""Who works on what, and until when: the assignments of one round. The clock is passed in.

Decisions change nothing: they return how assignments stand from then on, for the caller to write to the disk. Only
then `apply` makes it so here, and a write that failed has changed nothing anywhere.
"""

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping

from lotteryfl.common.names import WorkerId
from lotteryfl.common.security.identity import name_of
from lotteryfl.common.text import told_once
from lotteryfl.server.rounds.stacks import Stacks
from lotteryfl.server.rounds.work import closest
from lotteryfl.server.store.assignments import AssignmentId, Lease, Standing, State


class LeaseTable:
    """The assignments of one round: waiting, leased, done or dropped. Pure memory."""

    def __init__(
        self,
        standings: Iterable[Standing],
        now: float,
        *,
        lease_seconds: float,
        max_attempts: int,
        at_once: int = 1,
        stacks: Mapping[int, int] | None = None,
    ) -> None:
        """Take up a round; leases from before a restart stand for a whole lease time from now.

        Args:
            standings: of all the round's assignments, in order of service; those that are leased, in that of leasing.
            now: the time.
            lease_seconds: time after which a lease expires that nobody renewed.
            max_attempts: attempts after which an assignment is dropped.
            at_once: leases that a worker may have; those of one stack count as one.
            stacks: by client, which stack it is in; those that are in none are absent.
        """
        self._lease_seconds = lease_seconds
        self._max_attempts = max_attempts
        self._at_once = at_once
        self._stacks = Stacks(stacks or {})
        self._standings: dict[int, Standing] = {}
        self._waiting: OrderedDict[int, None] = OrderedDict()
        self._expires: dict[int, float] = {}  # by client; the oldest lease first
        self._holds: dict[WorkerId, dict[int, float]] = {}  # by worker, since when for which clients; it goes in turn
        self._ahead: dict[int, None] = {}  # leased clients whose work waits for another of their worker's
        self._returning: set[int] = set()  # leased clients whose work is over: the next one's has begun
        self._must_begin: set[int] = set()  # clients that were ahead of a worker that is gone: not so once more
        self._tried: dict[int, set[str]] = {}  # by waiting client, the workers that have spent an attempt at it
        self._in_transit: set[AssignmentId] = set()  # leased, and not yet with their workers
        self._counts: Counter[State] = Counter()
        self._none_over = float("inf")  # before, no lease is over: they only grow longer
        self.apply(standings, now)

    def apply(self, standings: Iterable[Standing], now: float) -> None:
        """Make it so: assignments stand as decided, and leases begin. What is taken back goes first in line."""
        standings = list(standings)
        for standing in standings:  # first: what ends for one has not begun for another
            self._note_failure(self._standings.get(standing.id.client), standing)
        for standing in standings:
            client = standing.id.client
            old = self._standings.get(client)
            if old is not None:
                self._counts[old.state] -= 1
                self._waiting.pop(client, None)
                if old.state == "leased" and (old.id, old.state) != (standing.id, standing.state):
                    self._end_lease(old)
            self._standings[client] = standing
            self._counts[standing.state] += 1
            if standing.state == "waiting":
                self._waiting[client] = None
                self._waiting.move_to_end(client, last=old is None)
            elif standing.state == "leased":
                self._put_lease(standing, now)

    def _put_lease(self, standing: Standing, now: float) -> None:
        """Begin a lease, or go on with it; either way its worker lives."""
        client, holds = standing.id.client, self._holds.setdefault(standing.worker, {})
        if client not in holds:
            if self._stacks.count([client, *holds]) > 1:
                self._ahead[client] = None
            holds[client] = now
        self.renew(standing.worker, now)

    def _end_lease(self, old: Standing) -> None:
        """End a lease; the one that its worker has beside it has begun now."""
        client, holds = old.id.client, self._holds[old.worker]
        del holds[client]
        for each in self._begins(holds):
            self._ahead.pop(each, None)
        if not holds:
            del self._holds[old.worker]
        del self._expires[client]
        self._ahead.pop(client, None)
        self._returning.discard(client)
        self._in_transit.discard(old.id)

    def _note_failure(self, old: Standing | None, new: Standing) -> None:
        """Remember who has failed at what waits again, or had it ahead; of what was before a restart, who had it last.

        What was ahead of one worker is not so of another: whatever it does to its workers, it cannot do so uncounted.
        """
        client = new.id.client
        if new.state != "waiting" or new.forgiven == new.id.attempt:
            if new.state != "leased":
                self._tried.pop(client, None)
        elif old is None or new.forgiven == old.forgiven - (client in self._ahead):
            self._tried.setdefault(client, set()).add(name_of(new.worker))
        if new.state != "waiting":
            self._must_begin.discard(client)
        elif client in self._ahead:
            self._must_begin.add(client)

    def may_try_again(self, client: int, worker: WorkerId) -> None:
        """Forget that a worker has failed at what it had last: it was its result that would not do."""
        self._tried.get(client, set()).discard(name_of(worker))

    def send(self, id_: AssignmentId) -> None:
        """Note that a leased assignment is on its way: lost now, it has cost no attempt."""
        self._in_transit.add(id_)

    def arrived(self, id_: AssignmentId) -> None:
        """Note that an assignment is with its worker."""
        self._in_transit.discard(id_)

    def returning(self, id_: AssignmentId) -> None:
        """Note that the work of a leased assignment is over, and its result on its way: its worker is at the next."""
        self._returning.add(id_.client)

    # -- decisions

    def grant(
        self,
        worker: WorkerId,
        clients: Collection[int] | None,
        homes: Mapping[int, WorkerId] | None = None,
        peers: Mapping[WorkerId, Collection[int] | None] | None = None,
        has: Collection[str] = (),
        *,
        workers: int = 0,
        paused: bool = False,
    ) -> Standing | None:
        """Lease an assignment among the worker's clients (None: of any client) to it; None: there is none.

        Of those that wait, among the first in line, a worker gets a client that it served last, whose mask and data it
        has; else one that nobody has served; else any. What it has failed at goes to a peer that has not, if there is
        one. What it holds, and does not say that it has, its last fetch did not bring, and it gets again. Beside what
        it has it may get another, which is ahead then: that costs no attempt before it begins. Not one that an idle
        worker is about to ask for: it would be sent twice. Who has nothing to do, and for whom nothing waits, gets what
        is ahead of somebody else.

        Args:
            worker: who asks.
            clients: whose data it holds.
            homes: by client, the worker that served it last.
            peers: by worker that is alive, the clients whose data it holds.
            has: ids of the assignments that are with it.
            workers: how many are alive; those that hold nothing are idle.
            paused: it gets no other than it holds.
        """
        holds = self._holds.get(worker, ())
        for held in (self._standings[client] for client in holds):
            if str(held.id) not in has:
                return held
        if paused or self._stacks.count(holds) >= self._at_once or (holds and self._is_for_the_idle(clients, workers)):
            return None
        line = self._stacks.apart(holds, self.waiting(clients))
        client = closest(self._choices(line, worker, peers or {}), worker, homes or {})
        if client is None and not holds:
            client = next(self._choices(self._withdrawable(clients), worker, peers or {}), None)
        return None if client is None else self._leased(client, worker)

    def _leased(self, client: int, worker: WorkerId) -> Standing:
        is_ahead = self._stacks.count([client, *self._holds.get(worker, ())]) > 1
        return self._standings[client].leased_to(worker, forgiven=is_ahead)

    def with_its_stack(
        self,
        granted: Standing,
        clients: Collection[int] | None,
        peers: Mapping[WorkerId, Collection[int] | None] | None = None,
    ) -> list[Standing]:
        """Return what is granted with those of its stack that can be leased to the same worker: they are leased as one.

        Whose last attempt it is after others goes alone: it is the one who fails then, if anybody does.

        Args:
            granted: what `grant` has returned.
            clients: as for `grant`.
            peers: as for `grant`.
        """
        client, worker = granted.id.client, granted.worker
        old = self._standings[client]
        if old.id == granted.id or old.has_one_left(self._max_attempts):  # in the one case it holds them already
            return [granted]
        line = self._waiting if old.state == "waiting" else set(self._withdrawable(clients))
        others = (each for each in self._stacks.others(client, line) if clients is None or each in clients)
        together = (each for each in others if not self._standings[each].has_one_left(self._max_attempts))
        return [granted, *(self._leased(each, worker) for each in self._choices(together, worker, peers or {}))]

    def more(self, granted: Standing, has: Collection[str]) -> int:
        """Return how many of a stack its worker holds beside one of them, and does not say that it has."""
        others = self._stacks.others(granted.id.client, self._holds.get(granted.worker, ()))
        return sum(str(self._standings[each].id) not in has for each in others)

    def _begins(self, holds: Iterable[int]) -> list[int]:
        """Return what begins when of a worker's leases only these are left: nothing while others have begun."""
        left = list(holds)
        return [left[0], *self._stacks.others(left[0], left)] if left and left[0] in self._ahead else []

    def _choices(
        self, line: Iterable[int], worker: WorkerId, peers: Mapping[WorkerId, Collection[int] | None]
    ) -> Iterator[int]:
        is_ahead = worker in self._holds
        return (
            client
            for client in line
            if not (is_ahead and client in self._must_begin) and not self._is_for_a_peer(client, worker, peers)
        )

    def _withdrawable(self, clients: Collection[int] | None) -> Iterator[int]:
        """Yield what has not begun, of these clients; first what is likely to begin last."""
        return (
            client
            for client in reversed(self._ahead)
            if (clients is None or client in clients) and not self._has_begun(client)
        )

    def _has_begun(self, client: int) -> bool:
        """Tell whether the work under a lease has begun, as far as is known: a worker does one thing at a time."""
        if client not in self._ahead:
            return True
        standing = self._standings[client]
        before = [each for each in self._holds[standing.worker] if each not in self._ahead]
        return standing.id not in self._in_transit and all(each in self._returning for each in before)

    def _is_for_the_idle(self, clients: Collection[int] | None, workers: int) -> bool:
        """Tell whether idle workers will take all that waits; of what only some may do, nobody is sure to."""
        return clients is None and len(self._waiting) <= self._stacks.rows * (workers - len(self._holds))

    def _is_for_a_peer(self, client: int, worker: WorkerId, peers: Mapping[WorkerId, Collection[int] | None]) -> bool:
        tried = self._tried.get(client, ())
        if name_of(worker) not in tried:
            return False
        return any(name_of(peer) not in tried and (held is None or client in held) for peer, held in peers.items())

    def taken_back(self, client: int, reason: str, *, counts: bool = True, has_begun: bool = False) -> Standing:
        """Put a leased assignment back; drop it where that was its last attempt.

        Args:
            client: whose.
            reason: why.
            counts: towards `max_attempts`; an assignment that has never arrived, or never begun, does not.
            has_begun: it has, whatever else is known.
        """
        old = self._standings[client]
        if client in self._ahead:
            forgiven = old.forgiven - (counts and (has_begun or self._has_begun(client)))
        else:
            forgiven = old.forgiven + (not counts or old.id in self._in_transit)
        is_over = old.id.attempt - forgiven >= self._max_attempts
        return old._replace(state="dropped" if is_over else "waiting", reason=reason, forgiven=forgiven)

    def with_next(self, standings: Iterable[Standing]) -> list[Standing]:
        """Add to standings how what their workers have ahead stands by them: it begins, and counts from then on."""
        decided = {standing.id.client: standing for standing in standings}
        over = [client for client, standing in decided.items() if standing.state != "leased"]
        for worker in {self._standings[client].worker for client in over if client in self._expires}:
            for following in self._begins(client for client in self._holds[worker] if client not in over):
                standing = decided.get(following, self._standings[following])
                decided[following] = standing._replace(forgiven=max(0, standing.forgiven - 1))
        return list(decided.values())

    def forgiving(self, standing: Standing, attempts: int) -> Standing:
        """Return a standing with so many attempts less that count; where it was dropped for them, it waits again.

        Args:
            standing: of one of the assignments, perhaps as it is only about to be.
            attempts: how many, of those that it had.
        """
        forgiven = min(standing.forgiven + attempts, standing.id.attempt)
        is_over = standing.id.attempt - forgiven >= self._max_attempts
        state: State = "waiting" if standing.state == "dropped" and not is_over else standing.state
        return standing._replace(forgiven=forgiven, state=state)

    def expired(self, now: float, heard: Mapping[WorkerId, float]) -> list[Standing]:
        """Take back the leases whose time is over.

        Where more than half of the workers fell silent at once, the silence is more likely ours than theirs: leases
        then last for another lease time.

        Args:
            now: the time.
            heard: by worker, when it was heard of last.
        """
        if now < self._none_over:
            return []
        over = [client for client, expires in self._expires.items() if expires <= now]
        self._none_over = min(self._expires.values(), default=float("inf"))
        if over and self._most_are_silent(now, heard):
            over = [client for client in over if self._expires[client] + self._lease_seconds <= now]
        silence = f"was silent for {self._lease_seconds:g} s"
        return [self.taken_back(client, f"{name_of(self._standings[client].worker)} {silence}") for client in over]

    def dropped_anew(self) -> list[Standing]:
        """Let the dropped assignments wait again, with all their attempts before them."""
        return [
            standing._replace(state="waiting", forgiven=standing.id.attempt)
            for standing in self._standings.values()
            if standing.state == "dropped"
        ]

    def left_out(self, reason: str) -> list[Standing]:
        """Drop what is neither done nor dropped, for this reason unless there is one already."""
        return [
            self._standings[client]._replace(state="dropped", reason=self._standings[client].reason or reason)
            for client in (*self._waiting, *self._expires)
        ]

    # -- time

    def renew(self, worker: WorkerId, now: float) -> None:
        """Extend what a worker holds, if anything: it lives."""
        for client in self._holds.get(worker, ()):
            self._expires[client] = now + self._lease_seconds
            self._none_over = min(self._none_over, self._expires[client])

    def renew_all(self, now: float) -> None:
        """Let every lease stand for a whole lease time from now."""
        for worker in self._holds:
            self.renew(worker, now)

    def next_expiry(self, checked: float) -> float:
        """Return when the first lease may be over that stood when they were checked; infinite without leases."""
        ends = (e if e > checked else e + self._lease_seconds for e in self._expires.values())
        return min(ends, default=float("inf"))

    def _most_are_silent(self, now: float, heard: Mapping[WorkerId, float]) -> bool:
        """Tell whether, of the workers heard of within two lease times, most were not within one."""
        last = dict(heard)
        for lease in self.leases():  # after a restart a holder may not have been heard of yet
            last[lease.worker] = max(last.get(lease.worker, 0.0), lease.expires - self._lease_seconds)
        silences = [now - moment for moment in last.values() if now - moment < 2 * self._lease_seconds]
        return 2 * sum(silence >= self._lease_seconds for silence in silences) > len(silences)

    # -- what there is

    def held(self, id_: AssignmentId, worker: WorkerId) -> Standing | None:
        """Return the assignment if this attempt of it is leased to this worker."""
        standing = self._standings.get(id_.client)
        if standing is None or (standing.id, standing.state, standing.worker) != (id_, "leased", worker):
            return None
        return standing

    def __getitem__(self, client: int) -> Standing:
        """Return how a client's assignment stands."""
        return self._standings[client]

    def waiting(self, clients: Collection[int] | None) -> Iterator[int]:
        """Yield the waiting clients among these (None: all), in order of service."""
        return (client for client in self._waiting if clients is None or client in clients)

    def leases(self) -> list[Lease]:
        """Return all leases, the oldest first."""
        holders = ((self._standings[client], expires) for client, expires in self._expires.items())
        return [Lease(standing.id, standing.worker, expires) for standing, expires in holders]

    def held_as(self, lease: Lease) -> tuple[float, bool, bool]:
        """Return since when a lease is held, whether its assignment has arrived, and whether its result is coming."""
        since = self._holds[lease.worker][lease.id.client]
        return since, lease.id not in self._in_transit, lease.id.client in self._returning

    def reasons(self) -> list[str]:
        """Return why assignments were dropped, or wait again; each reason once, whichever client it names."""
        dropped = [standing for standing in self._standings.values() if standing.reason]
        return told_once(
            (each.reason.replace(f"client {each.id.client} of", "client of", 1), each.reason) for each in dropped
        )

    def count(self, state: State) -> int:
        """Return how many assignments stand so."""
        return self._counts[state]

    @property
    def has_failures(self) -> bool:
        """Whether workers have failed at what waits: only then does it matter to `grant` who its peers are."""
        return bool(self._tried)

    @property
    def unsettled(self) -> int:
        """How many assignments are neither done nor dropped."""
        return len(self._waiting) + len(self._expires)

    def __len__(self) -> int:
        """Return how many assignments there are."""
        return len(self._standings)
