"""Refused results: counted by worker and round, and what becomes of a worker that goes on sending them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.names import WorkerId
from lotteryfl.describe import describe_round
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.running.simulate import Simulation
from lotteryfl.seeing.lines import describe
from lotteryfl.server.results.summary import summarise
from lotteryfl.server.results.verify import verify
from lotteryfl.server.rounds.workers import AsideError
from lotteryfl.server.store.status import status_of
from lotteryfl.server.store.summaries import round_summaries
from tests.support.bench import CPU, Bench, TinyTask, create, silent, tiny_experiment

Drive = Callable[..., Bench]
REASON = f"examples = 0: expected 1 to {2**40}"
ASIDE = rf"^worker bad is put aside for the rest of this run: 3 of its results were refused, the last for {REASON}$"


def send_rubbish(bench: Bench, worker: WorkerId, times: int = 1) -> None:
    for _ in range(times):
        answer = bench.do(bench.take(worker))
        answer.result.examples = 0
        assert bench.submit(worker, answer).verdict == pb.SubmitReply.REFUSED


def test_refusals_are_counted_by_worker_and_by_round(drive: Drive) -> None:
    bench = drive()
    bad, worse = bench.register("bad"), bench.register("worse")
    send_rubbish(bench, bad)
    send_rubbish(bench, worse, 2)
    expected = [
        pb.WorkerRefusals(worker="bad", results=1, reason=REASON),
        pb.WorkerRefusals(worker="worse", results=2, reason=REASON),
    ]
    assert list(bench.coordinator.status().refusals) == list(status_of(bench.run).refusals) == expected
    bench.do_all(bench.register("good"))
    bench.commit()
    status = bench.coordinator.status()
    assert status.last.refused == 3
    assert ", 3 refused" in describe_round(status)
    assert f"refused: 2 of worse's results; the last: {REASON}" in describe(status)
    send_rubbish(bench, bad)
    bench.finish()
    assert [summary.refused for summary in round_summaries(bench.run.database)] == [3, 1, 0]
    assert summarise(bench.run)["refused"] == {"results": 4, "by_worker": {"bad": 2, "worse": 2}, "aside": []}


def test_the_third_refusal_puts_a_worker_aside_and_the_others_finish_as_if_it_had_never_been(drive: Drive) -> None:
    bench = drive()
    bad = bench.register("bad")
    send_rubbish(bench, bad, 3)
    for call in (
        lambda: bench.coordinator.lease(bad),
        lambda: bench.register("bad"),
        lambda: bench.register("bad", "2"),
    ):
        with pytest.raises(AsideError, match=ASIDE):
            call()
    assert bench.coordinator.status().in_flight == []
    assert bench.coordinator.alive_workers() == set()
    assert f"refused: 3 of bad's results, put aside; the last: {REASON}" in describe(bench.coordinator.status())
    assert bench.finish().bits() == drive(name="undisturbed").finish().bits()
    assert summarise(bench.run)["refused"] == {"results": 3, "by_worker": {"bad": 3}, "aside": ["bad"]}
    assert [str(problem) for group in verify(bench.path).groups for problem in group.problems] == []


def test_who_is_aside_stays_so_over_a_restart(drive: Drive) -> None:
    bench = drive()
    send_rubbish(bench, bench.register("bad"), 2)
    bench.restart()
    send_rubbish(bench, bench.register("bad"))
    bench.restart()
    with pytest.raises(AsideError, match=ASIDE):
        bench.register("bad", "another")
    assert bench.register("good") == "good:1"


def test_the_attempts_that_it_wasted_do_not_count_against_the_clients(drive: Drive) -> None:
    """Of two that a client has, one worker wastes both, and one of the next client's."""
    bench = drive(tiny_experiment(round={"max_attempts": 2}))
    bad = bench.register("bad")
    send_rubbish(bench, bad, 2)
    (given_up,) = [row for row in bench.run.database.assignments(1) if row.state == "dropped"]
    assert given_up.attempt == 2
    send_rubbish(bench, bad)
    rows = {row.client: row for row in bench.run.database.assignments(1)}
    assert {row.state for row in rows.values()} == {"waiting"}
    assert rows[given_up.client].forgiven == 2
    assert sum(row.forgiven for row in rows.values()) == 3
    good = bench.register("good")
    answer = bench.do(bench.take(good))
    bench.coordinator.release(good, answer.result.assignment_id, "out of memory")
    (again,) = [row for row in bench.run.database.assignments(1) if row.reason == "out of memory"]
    assert again.state == "waiting", "it has both of its attempts"
    bench.do_all(good)
    bench.commit()
    assert list(bench.coordinator.status().last.stragglers) == []


def test_what_another_worker_is_doing_meanwhile_stays_with_it(drive: Drive) -> None:
    bench = drive(tiny_experiment(round={"max_attempts": 2}))
    bad, good = bench.register("bad"), bench.register("good")
    answers = [bench.do(bench.take(bad))]
    answers[0].result.examples = 0
    bench.submit(bad, answers[0])
    work = bench.take(good)  # at its second attempt: the first was wasted
    assert work.assignment.assignment_id.endswith("-a2")
    send_rubbish(bench, bad, 2)
    (row,) = [row for row in bench.run.database.assignments(1) if row.client == work.assignment.client]
    assert (row.state, row.worker, row.forgiven) == ("leased", good, 1)
    assert bench.submit(good, bench.do(work)).verdict == pb.SubmitReply.ACCEPTED


def test_a_late_result_is_stale_and_no_refusal(drive: Drive) -> None:
    bench = drive()
    bad = bench.register("bad")
    answer = bench.do(bench.take(bad))
    answer.result.examples = 0
    bench.register("bad", "2")
    assert bench.submit(bad, answer).verdict == pb.SubmitReply.STALE
    assert list(bench.coordinator.status().refusals) == []


def test_what_cannot_be_written_is_no_refusal(drive: Drive) -> None:
    bench = drive()
    bad = bench.register("bad")
    answer = bench.do(bench.take(bad))
    answer.result.examples = 0
    bench.run.database._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(Exception, match="readonly"):
        bench.submit(bad, answer)
    bench.run.database._connection.execute("PRAGMA query_only = OFF")
    assert list(bench.coordinator.status().refusals) == []
    assert bench.submit(bad, answer).verdict == pb.SubmitReply.REFUSED


def test_how_many_are_too_many_is_the_experiments(drive: Drive) -> None:
    bench = drive(tiny_experiment(checks={"max_refusals": 1}))
    bad = bench.register("bad")
    send_rubbish(bench, bad)
    with pytest.raises(AsideError):
        bench.take(bad)


def test_a_run_whose_only_worker_is_aside_ends_by_its_deadline_with_the_reason(drive: Drive) -> None:
    bench = drive()
    send_rubbish(bench, bench.register("bad"), 3)
    for _ in range(10):
        bench.now += 10
        bench.coordinator.advance()
    assert bench.coordinator.reason.startswith("trying again: round 1: 0 of 3 results, 1 needed: the deadline of 100 s")
    for _ in range(10):
        bench.now += 10
        bench.coordinator.advance()
    assert bench.coordinator.state == "failed"
    assert f"refused: {REASON}" in bench.coordinator.reason
    assert [each.aside for each in bench.coordinator.status().refusals] == [True]


def test_a_simulation_whose_results_are_refused_says_so(drive: Drive, tmp_path: Path) -> None:
    experiment = tiny_experiment(checks={"max_update_norm": 1e-9})
    reason = "no worker is left: worker simulate is put aside .* its update has a norm of"
    with (
        create(tmp_path / "simulated", experiment, TinyTask()) as run,
        pytest.raises(LotteryFLError, match=reason),
    ):
        Simulation(run, TinyTask(), CPU).run(silent)
