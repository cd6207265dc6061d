"""When a round is over: every case of the decision."""

import pytest

from server.rounds import Decision, RoundState, Verdict, decide

WAIT, COMMIT, FAIL = Verdict.WAIT, Verdict.COMMIT, Verdict.FAIL


@pytest.mark.parametrize(
    ("results", "unsettled", "age", "verdict", "reason"),
    [
        (0, 5, 0, WAIT, "5 of 5 results are missing"),
        (4, 1, 59.9, WAIT, "1 of 5 results are missing"),
        (1, 1, 59.9, WAIT, "4 of 5 results are missing"),  # too few already, but more may come
        (5, 0, 0, COMMIT, "all results are in"),
        (5, 0, 61, COMMIT, "all results are in"),
        (4, 0, 0, COMMIT, "1 of 5 clients sat it out: clients were given up"),
        (2, 0, 0, COMMIT, "3 of 5 clients sat it out: clients were given up"),
        (2, 1, 60, COMMIT, "3 of 5 clients sat it out: the deadline of 60 s has passed"),
        (1, 0, 0, FAIL, "1 of 5 results, 2 needed: clients were given up"),
        (0, 0, 0, FAIL, "0 of 5 results, 2 needed: clients were given up"),
        (1, 4, 60, FAIL, "1 of 5 results, 2 needed: the deadline of 60 s has passed"),
        (0, 5, 1e9, FAIL, "0 of 5 results, 2 needed: the deadline of 60 s has passed"),
    ],
)
def test_decision(results: int, unsettled: int, age: float, verdict: Verdict, reason: str) -> None:
    state = RoundState(assigned=5, results=results, unsettled=unsettled, age=age)
    assert decide(state, min_results=2, deadline=60) == Decision(verdict, reason)
