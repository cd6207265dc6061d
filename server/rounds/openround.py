"""When a round is over, tried again or failed: pure decisions, with their reasons. The clock is passed in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from lotteryfl.common.experiment.settings import RoundSettings
from lotteryfl.common.names import WorkerId
from lotteryfl.server.rounds.leases import LeaseTable
from lotteryfl.server.store.assignments import Standing

_CHECKS_PER_LEASE = 3
"""Looks at the leases in a lease time, at least: when the last was longer ago than one, the coordinator stood still."""


_MOST_REASONS = 10
"""That a round's failure names: each client may have one of its own."""


class Verdict(Enum):
    """What to do with an open round."""

    WAIT = "wait"
    COMMIT = "commit"
    RETRY = "retry"
    FAIL = "fail"


class Decision(NamedTuple):
    """What to do, and why."""

    verdict: Verdict
    reason: str
    standings: tuple[Standing, ...] = ()
    """How assignments stand from then on."""


@dataclass(frozen=True)
class RoundCounts:
    """An open round as counts."""

    assigned: int
    results: int
    unsettled: int
    retries: int
    age: float
    """Seconds since it was opened, taken up or tried again."""
    is_first: bool = False
    """No round has been committed before it."""


def decide(counts: RoundCounts, settings: RoundSettings) -> Decision:
    """Decide on an open round: wait, commit with what is there, try it again, or fail loudly."""
    missing = counts.assigned - counts.results
    if counts.unsettled and counts.age < settings.deadline:
        return Decision(Verdict.WAIT, f"{missing} of {counts.assigned} results are missing")
    cause = "clients were given up"
    if counts.unsettled:
        cause = f"the deadline of {settings.deadline:g} s has passed"
    if counts.results < settings.min_results:
        is_hopeless = counts.is_first and not counts.results and not counts.unsettled
        if is_hopeless:
            cause = "none has ever succeeded, and all clients were given up"
        verdict = Verdict.RETRY if counts.retries < settings.retries and not is_hopeless else Verdict.FAIL
        what = f"{counts.results} of {counts.assigned} results, {settings.min_results} needed"
        tries = f" after {counts.retries + 1} tries" if counts.retries else ""
        return Decision(verdict, f"{what}{tries}: {cause}")
    if missing:
        return Decision(Verdict.COMMIT, f"{missing} of {counts.assigned} clients sat it out: {cause}")
    return Decision(Verdict.COMMIT, "all results are in")


class OpenRound:
    """The round that is open: how its assignments stand, and since when it has been tried."""

    def __init__(
        self,
        number: int,
        settings: RoundSettings,
        standings: Iterable[Standing],
        now: float,
        *,
        retries: int = 0,
        stacks: Mapping[int, int] | None = None,
    ) -> None:
        """Take up a round, with its whole time before it.

        Args:
            number: from 1.
            settings: its limits.
            standings: of all its assignments.
            now: the time.
            retries: how often it has been tried again.
            stacks: by client, which stack it is in.
        """
        self.number = number
        self.retries = retries
        self.assignments = LeaseTable(
            standings,
            now,
            lease_seconds=settings.lease,
            max_attempts=settings.max_attempts,
            at_once=settings.leases,
            stacks=stacks,
        )
        self.is_paused = False
        """The run is: no time passes for the round."""
        self._settings = settings
        self._opened = self._checked = now

    def expired(self, now: float, heard: Mapping[WorkerId, float], *, paused: bool = False) -> list[Standing]:
        """Take back the leases whose time is over; to be called as often as `seconds_until_check` says.

        Time in which the coordinator itself stood still, or the run is paused, does not count: the round grows no older
        by it, and leases stand for a whole lease time again.

        Args:
            now: the time.
            heard: by worker, when it was heard of last.
            paused: the run has been since the last call.
        """
        unseen, self.is_paused = now - self._checked, paused
        if paused or unseen > self._settings.lease:
            self._opened += unseen
            self.assignments.renew_all(now)
        self._checked = now
        return self.assignments.expired(now, heard)

    def decide(self, now: float) -> Decision:
        """Decide whether the round is over, and what becomes of the assignments without a result."""
        assignments = self.assignments
        counts = RoundCounts(
            assigned=len(assignments),
            results=assignments.count("done"),
            unsettled=assignments.unsettled,
            retries=self.retries,
            age=self.age(now),
            is_first=self.number == 1,
        )
        decision = decide(counts, self._settings)
        if decision.verdict is Verdict.COMMIT:
            late = f"no result by the deadline of {self._settings.deadline:g} s"
            return decision._replace(standings=tuple(assignments.left_out(late)))
        if decision.verdict is Verdict.WAIT:
            return decision
        reasons = assignments.reasons()
        why = "".join(f"; {reason}" for reason in reasons[:_MOST_REASONS])
        if len(reasons) > _MOST_REASONS:
            why += f"; and {len(reasons) - _MOST_REASONS} more reasons"
        again = assignments.dropped_anew() if decision.verdict is Verdict.RETRY else ()
        return Decision(decision.verdict, f"round {self.number}: {decision.reason}{why}", tuple(again))

    def start_over(self, standings: Iterable[Standing], now: float, *, retries: int) -> None:
        """Let assignments stand as decided, and give the round its whole time again."""
        self.assignments.apply(standings, now)
        self.retries = retries
        self._opened = now

    def age(self, now: float) -> float:
        """Return for how many seconds the round has been tried."""
        return now - self._opened

    def seconds_left(self, now: float) -> float:
        """Return for how long who is missing is still waited for."""
        return max(0.0, self._opened + self._settings.deadline - now)

    @property
    def still_needed(self) -> int:
        """How many results are missing without which the round is not committed."""
        return max(0, self._settings.min_results - self.assignments.count("done"))

    def seconds_until_check(self, now: float) -> float:
        """Return for how long nothing changes by the clock alone."""
        at = min(self._opened + self._settings.deadline, self.assignments.next_expiry(self._checked))
        return max(0.0, min(at - now, self._settings.lease / _CHECKS_PER_LEASE))
