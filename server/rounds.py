"""When a round is over: one pure decision, with its reason."""

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """What to do with an open round."""

    WAIT = "wait"
    COMMIT = "commit"
    FAIL = "fail"


@dataclass(frozen=True)
class RoundState:
    """An open round as counts."""

    assigned: int
    results: int
    unsettled: int
    age: float
    """Seconds since it was opened (or taken up again)."""


@dataclass(frozen=True)
class Decision:
    """What to do, and why."""

    verdict: Verdict
    reason: str


def decide(state: RoundState, *, min_results: int, deadline: float) -> Decision:
    """Decide on an open round: wait, commit with what is there, or fail loudly.

    Args:
        state: the round's counts.
        min_results: results without which a round is not committed.
        deadline: seconds after which the missing are not waited for.
    """
    missing = state.assigned - state.results
    if state.unsettled and state.age < deadline:
        return Decision(Verdict.WAIT, f"{missing} of {state.assigned} results are missing")
    cause = f"the deadline of {deadline:g} s has passed" if state.unsettled else "clients were given up"
    if state.results < min_results:
        return Decision(Verdict.FAIL, f"{state.results} of {state.assigned} results, {min_results} needed: {cause}")
    if missing:
        return Decision(Verdict.COMMIT, f"{missing} of {state.assigned} clients sat it out: {cause}")
    return Decision(Verdict.COMMIT, "all results are in")
