"""When a round is over: every case of the decision, and time that does not count."""

from dataclasses import replace

import pytest

from lotteryfl.common.experiment.settings import RoundSettings
from lotteryfl.common.names import WorkerId
from lotteryfl.server.rounds.openround import Decision, OpenRound, RoundCounts, Verdict, decide
from lotteryfl.server.store.assignments import AssignmentId, Standing

WAIT, COMMIT, RETRY, FAIL = Verdict.WAIT, Verdict.COMMIT, Verdict.RETRY, Verdict.FAIL
SETTINGS = RoundSettings(min_results=2, deadline=60, lease=10, retries=2, max_attempts=1)
ALIVE = {WorkerId(f"w{n}"): 1e9 for n in range(9)}


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
        (1, 0, 0, RETRY, "1 of 5 results, 2 needed: clients were given up"),
        (0, 0, 0, RETRY, "0 of 5 results, 2 needed: clients were given up"),
        (1, 4, 60, RETRY, "1 of 5 results, 2 needed: the deadline of 60 s has passed"),
        (0, 5, 1e9, RETRY, "0 of 5 results, 2 needed: the deadline of 60 s has passed"),
    ],
)
def test_decision(results: int, unsettled: int, age: float, verdict: Verdict, reason: str) -> None:
    counts = RoundCounts(assigned=5, results=results, unsettled=unsettled, retries=0, age=age)
    assert decide(counts, SETTINGS) == Decision(verdict, reason)


@pytest.mark.parametrize(
    ("retries", "verdict", "tries"), [(0, RETRY, ""), (1, RETRY, " after 2 tries"), (2, FAIL, " after 3 tries")]
)
def test_too_few_results_are_tried_again_as_often_as_is_set(retries: int, verdict: Verdict, tries: str) -> None:
    counts = RoundCounts(assigned=5, results=1, unsettled=0, retries=retries, age=0)
    expected = Decision(verdict, f"1 of 5 results, 2 needed{tries}: clients were given up")
    assert decide(counts, SETTINGS) == expected


def test_where_nobody_has_ever_succeeded_all_given_up_is_the_end() -> None:
    counts = RoundCounts(assigned=5, results=0, unsettled=0, retries=0, age=0, is_first=True)
    reason = "0 of 5 results, 2 needed: none has ever succeeded, and all clients were given up"
    assert decide(counts, SETTINGS) == Decision(FAIL, reason)
    for others in (replace(counts, results=1), replace(counts, is_first=False)):
        assert decide(others, SETTINGS).verdict is RETRY
    assert decide(replace(counts, unsettled=1, age=60), SETTINGS).verdict is RETRY, "they may only be slow"


def round_of(*standings: Standing, now: float = 0.0) -> OpenRound:
    return OpenRound(3, SETTINGS, standings, now)


def standing(client: int, state: str = "waiting", attempt: int = 1, reason: str = "") -> Standing:
    return Standing(AssignmentId(3, client, attempt), state, WorkerId(f"w{client}:1"), reason)  # type: ignore[arg-type]


def test_a_retry_keeps_results_and_leases_and_tries_the_dropped_anew() -> None:
    round_ = round_of(standing(0, "done"), standing(1, "dropped", reason="no memory"), standing(2, "leased"))
    assert round_.decide(59).verdict is WAIT
    verdict, reason, standings = round_.decide(60)
    assert verdict is RETRY
    assert reason == "round 3: 1 of 3 results, 2 needed: the deadline of 60 s has passed; no memory"
    assert [(s.id, s.state, s.forgiven) for s in standings] == [((3, 1, 1), "waiting", 1)]
    round_.start_over(standings, 60, retries=1)
    table = round_.assignments
    assert (round_.retries, table.count("done"), table.count("leased"), table.count("waiting")) == (1, 1, 1, 1)
    assert round_.decide(119.9).verdict is WAIT
    assert round_.decide(120).verdict is RETRY


def test_a_failure_says_why_and_changes_nothing() -> None:
    round_ = OpenRound(
        3, SETTINGS, [standing(0, "dropped", reason="b"), standing(1, "dropped", reason="a")], 0, retries=2
    )
    reason = "round 3: 0 of 2 results, 2 needed after 3 tries: clients were given up; a; b"
    assert round_.decide(0) == Decision(FAIL, reason)


def test_a_commit_leaves_out_who_is_late() -> None:
    round_ = round_of(standing(0, "done"), standing(1, "done"), standing(2, "leased"), standing(3, "waiting", 0))
    verdict, reason, standings = round_.decide(60)
    assert (verdict, reason) == (COMMIT, "2 of 4 clients sat it out: the deadline of 60 s has passed")
    late = "no result by the deadline of 60 s"
    assert {(s.id.client, s.state, s.worker, s.reason) for s in standings} == {
        (2, "dropped", "w2:1", late),
        (3, "dropped", "w3:1", late),
    }


# ---- the coordinator's own pauses


def test_time_in_which_nobody_looked_does_not_count() -> None:
    round_ = round_of(standing(0, "leased"), standing(1, "done"))
    assert round_.expired(8, ALIVE) == []
    assert round_.expired(18.1, ALIVE) == []  # more than a lease time later: we were stopped
    assert round_.age(18.1) == pytest.approx(8)
    assert round_.expired(28, ALIVE) == []
    (back,) = round_.expired(28.1, ALIVE)
    assert back.id.client == 0


def test_a_lease_time_between_two_looks_is_no_pause() -> None:
    round_ = round_of(standing(0, "leased"))
    assert len(round_.expired(10, ALIVE)) == 1
    assert round_.age(10) == 10


def test_the_deadline_waits_for_a_coordinator_that_was_stopped() -> None:
    round_ = round_of(standing(0, "done"), standing(1, "done"), standing(2, "leased"))
    round_.expired(5, ALIVE)
    round_.expired(1000, ALIVE)
    assert round_.decide(1000).verdict is WAIT
    assert round_.decide(1054.9).verdict is WAIT
    assert round_.decide(1055).verdict is COMMIT


def test_it_is_looked_at_every_third_of_a_lease_and_when_something_is_due() -> None:
    round_ = round_of(standing(0, "leased"))
    assert round_.seconds_until_check(0) == pytest.approx(10 / 3)
    assert round_.seconds_until_check(9) == 1
    assert round_.seconds_until_check(11) == 0
    round_.expired(10, {})  # in its grace
    assert round_.seconds_until_check(19) == 1
    round_ = round_of(standing(0, "waiting", 0))
    assert round_.seconds_until_check(59) == 1
    assert round_.seconds_until_check(61) == 0
