"""Failing loudly, atomic commits, restarts and files: whatever happens, a run ends with the same bits."""

import sqlite3
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.describe import describe_round
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.conclusion import Conclusion
from lotteryfl.server.rounds.work import Step
from lotteryfl.server.store.status import status_of
from tests.support.bench import Bench, tiny_experiment

Drive = Callable[..., Bench]

ACCEPTED, DUPLICATE, STALE, REFUSED = (
    pb.SubmitReply.ACCEPTED,
    pb.SubmitReply.DUPLICATE,
    pb.SubmitReply.STALE,
    pb.SubmitReply.REFUSED,
)


# ---- failing loudly


def test_too_few_results_fail_loudly_and_a_restart_takes_the_round_up_again(drive: Drive) -> None:
    bench = drive(tiny_experiment(round={"min_results": 2, "max_attempts": 1, "retries": 0}))
    worker = bench.register()
    bench.submit(worker, bench.do(bench.take(worker)))
    for _ in range(2):
        id_ = bench.take(worker).assignment.assignment_id
        bench.coordinator.release(worker, id_, "out of memory")
    assert bench.coordinator.advance() is Step.ENDED
    reason = "round 1: 1 of 3 results, 2 needed: clients were given up; out of memory"
    with pytest.raises(LotteryFLError, match=f"the run failed: {reason}"):
        bench.coordinator.raise_if_failed()
    assert (bench.coordinator.status().state, bench.coordinator.status().reason) == (pb.RunStatus.FAILED, reason)
    assert bench.coordinator.lease(worker) is None
    assert bench.coordinator.advance() is Step.ENDED

    bench.restart()
    assert (bench.coordinator.state, bench.coordinator.reason) == ("running", "")
    assert bench.coordinator.status().results == 1
    assert bench.take(bench.register()).assignment.assignment_id.endswith("-a2")
    bench.finish()
    assert bench.bits() == drive(bench.run.experiment, name="undisturbed").finish().bits()


def test_the_deadline_commits_with_enough_results_and_names_who_was_late(drive: Drive) -> None:
    bench = drive(tiny_experiment(round={"min_results": 2, "deadline": 30}))
    late, worker = bench.register("late"), bench.register()
    client = bench.take(late).assignment.client
    bench.do_all(worker)
    for bench.now in (9, 18, 27):
        bench.coordinator.heartbeat(late, [pb.AssignmentProgress(assignment_id=f"r1-c{client}-a1")])
        assert bench.coordinator.advance() is Step.WAIT
    bench.now = 30
    bench.commit()
    (row,) = [row for row in bench.run.database.assignments(1) if row.state != "done"]
    assert (row.client, row.state, row.worker) == (client, "dropped", late)
    assert row.reason == "no result by the deadline of 30 s"
    assert bench.coordinator.status().last.stragglers == [client]
    assert status_of(bench.run).last.stragglers == [client]
    assert describe_round(bench.coordinator.status()).endswith(f", without client {client}")
    beat = [pb.AssignmentProgress(assignment_id=f"r1-c{client}-a1")]
    assert bench.coordinator.heartbeat(late, beat) == [f"r1-c{client}-a1"]


def test_a_round_with_too_few_results_is_tried_again_and_then_fails(drive: Drive) -> None:
    bench = drive(tiny_experiment(round={"min_results": 3, "max_attempts": 1, "deadline": 30}))
    worker = bench.register()
    unlucky = bench.take(worker).assignment.client
    bench.coordinator.release(worker, f"r1-c{unlucky}-a1", "out of memory")
    bench.do_all(worker)
    assert bench.coordinator.advance() is Step.OFFER
    reason = "round 1: 2 of 3 results, 3 needed: clients were given up; out of memory"
    assert (bench.coordinator.state, bench.coordinator.reason) == ("running", f"trying again: {reason}")
    assert status_of(bench.run).reason == f"trying again: {reason}"
    assert bench.coordinator.advance() is Step.WAIT
    bench.restart()  # what was tried stays tried
    worker = bench.register()
    assert bench.coordinator.status().results == 2
    assert bench.take(worker).assignment.assignment_id == f"r1-c{unlucky}-a2"
    bench.coordinator.release(worker, f"r1-c{unlucky}-a2", "out of memory")
    assert bench.coordinator.advance() is Step.ENDED
    assert bench.coordinator.reason == reason.replace("needed", "needed after 2 tries")


def test_a_round_that_is_tried_again_has_a_new_deadline_and_the_same_bits(drive: Drive) -> None:
    experiment = tiny_experiment(round={"min_results": 3, "deadline": 30})
    bench = drive(experiment)
    slow = bench.register("slow")
    held = bench.do(bench.take(slow))
    bench.do_all(bench.register())
    for bench.now in range(5, 30, 5):
        bench.coordinator.heartbeat(slow, [])
        assert bench.coordinator.advance() is Step.WAIT
    bench.now = 30
    assert bench.coordinator.advance() is Step.OFFER
    for bench.now in range(35, 60, 5):
        bench.coordinator.heartbeat(slow, [])
        assert bench.coordinator.advance() is Step.WAIT
    assert bench.submit(slow, held).verdict == ACCEPTED
    bench.commit()
    assert (bench.coordinator.reason, list(bench.coordinator.status().last.stragglers)) == ("", [])
    assert bench.finish().bits() == drive(experiment, name="undisturbed").finish().bits()


def test_a_finished_run_cannot_fail_any_more(drive: Drive) -> None:
    bench = drive()
    bench.finish().coordinator.fail("no worker is left")
    assert (bench.coordinator.state, bench.bits()[2]) == ("finished", "finished")


def test_a_last_round_that_is_over_is_committed_although_the_run_was_failed_meanwhile(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    while not bench.coordinator.is_final:
        bench.do_all(worker)
        bench.commit()
    bench.do_all(worker)
    assert bench.coordinator.advance() is Step.COMMIT
    bench.coordinator.fail("no worker is left")
    bench.coordinator.commit(Conclusion())
    assert (bench.coordinator.state, bench.coordinator.reason) == ("finished", "")


def test_what_cannot_be_written_has_not_happened(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    crash_on(bench, "UPDATE ON assignments")
    with pytest.raises(sqlite3.IntegrityError, match="killed here"):
        bench.coordinator.lease(worker)
    assert bench.coordinator.status().in_flight == []
    bench.run.database._connection.execute("DROP TRIGGER crash")
    work = bench.take(worker)
    assert work.assignment.assignment_id.endswith("-a1")
    crash_on(bench, "UPDATE ON assignments")
    with pytest.raises(sqlite3.IntegrityError, match="killed here"):
        bench.submit(worker, bench.do(work))
    with pytest.raises(sqlite3.IntegrityError, match="killed here"):
        bench.coordinator.release(worker, work.assignment.assignment_id, "cannot")
    bench.run.database._connection.execute("DROP TRIGGER crash")
    assert (bench.coordinator.status().results, len(bench.coordinator.status().in_flight)) == (0, 1)
    assert bench.submit(worker, bench.do(work)).verdict == ACCEPTED


# ---- atomic commits


def crash_on(bench: Bench, statement: str) -> None:
    """Let SQLite refuse one statement, as if the process died right there."""
    bench.run.database._connection.execute(
        f"CREATE TEMP TRIGGER crash BEFORE {statement} BEGIN SELECT RAISE(ABORT, 'killed here'); END"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ON rounds",  # first in the commit
        "UPDATE ON clients",  # in the middle
        "INSERT ON run WHEN new.key = 'model_round'",  # last
        "INSERT ON rounds",  # after the commit, while the next round is opened
        "INSERT ON assignments",
    ],
)
def test_a_crash_in_a_commit_changes_nothing_and_the_run_ends_with_the_same_bits(drive: Drive, statement: str) -> None:
    undisturbed = drive(name="undisturbed")
    worker = undisturbed.register()
    undisturbed.finish()

    bench = drive()
    bench.register()
    bench.do_all(worker)
    committed = "INSERT ON" in statement and "run" not in statement
    before = bench.run.database.get("model_sha256")
    crash_on(bench, statement)
    with pytest.raises(sqlite3.IntegrityError, match="killed here"):
        bench.commit()
    bench.restart()
    assert bench.run.database.committed_rounds() == committed
    assert (bench.run.database.get("model_sha256") != before) == committed
    assert bench.coordinator.round == 1 + committed
    assert bench.finish().bits() == undisturbed.bits()


def test_a_crash_between_the_model_file_and_the_commit_leaves_the_old_model(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    bench.do_all(worker)
    bench.conclude()
    assert "round-0001.safetensors" in bench.files("models")
    bench.restart()
    assert bench.coordinator.model_round == 0
    assert bench.files("models") == {"round-0000.safetensors"}
    undisturbed = drive(name="undisturbed").finish()
    assert bench.finish().bits() == undisturbed.bits()


def test_a_crash_before_a_result_is_counted_leaves_its_lease(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    answer = bench.do(bench.take(worker))
    crash_on(bench, "INSERT ON results")
    with pytest.raises(sqlite3.IntegrityError, match="killed here"):
        bench.submit(worker, answer)
    bench.restart()
    assert bench.files("results") == set()  # what was received, but not answered for
    assert bench.submit(worker, answer).verdict == ACCEPTED


EVENTS = ["expire", "restart", "again", "twice", "refuse"]


@example(events=[])
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(st.sampled_from(EVENTS), max_size=8))
def test_whatever_happens_the_run_ends_with_the_same_bits(
    drive: Drive, numbers: Counter[str], events: list[str]
) -> None:
    experiment = tiny_experiment(
        rounds=1,
        clients=3,
        clients_per_round=2,
        round={"max_attempts": 100, "deadline": 1e6},
        checks={"max_refusals": 100},
    )
    numbers["runs"] += 1
    bench = drive(experiment, name=f"run{numbers['runs']}")
    for event in events:
        worker = bench.register()
        step = bench.coordinator.advance()
        if step is Step.ENDED:
            break
        if step is Step.COMMIT:
            bench.commit()
            continue
        answer = bench.do(bench.take(worker))
        if event == "refuse":
            answer.result.examples = 0
            assert bench.submit(worker, answer).verdict == REFUSED
            continue
        if event == "expire":
            bench.register("witness")
            bench.now += 10
            bench.coordinator.heartbeat(bench.register("witness"), [])
            bench.coordinator.advance()
            assert bench.submit(worker, answer).verdict == STALE
        elif event == "again":
            bench.incarnation += 1
            bench.register()
            assert bench.submit(worker, answer).verdict == STALE
        elif event == "restart":
            assert bench.restart().submit(worker, answer).verdict == ACCEPTED
        elif event == "twice":
            assert [bench.submit(worker, answer).verdict for _ in range(2)] == [ACCEPTED, DUPLICATE]
    bench.finish()
    numbers[str(bench.bits())] += 1
    assert len(numbers) == 2, "two runs of one experiment ended with different bits"


@pytest.fixture
def numbers() -> Counter[str]:
    return Counter()


# ---- files


def test_files_not_needed_any_more_are_removed_and_needed_ones_never(drive: Drive) -> None:
    bench = drive(tiny_experiment(rounds=4))
    worker = bench.register()
    while bench.coordinator.state == "running":
        bench.do_all(worker)
        bench.commit()
        clients = bench.run.database.clients()
        tickets = {row.ticket for row in clients if row.ticket}
        assert {f"results/{name}" for name in bench.files("results")} == tickets
        assert bench.files("masks") == {f"{row.mask}.safetensors" for row in clients if row.mask}
        assert bench.files("models") == {
            f"round-{number:04d}.safetensors" for number in (0, bench.coordinator.model_round)
        }
    assert bench.coordinator.model_round == 4


def test_a_commit_leaves_uploads_under_way_alone_and_a_restart_does_not(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    bench.do_all(worker)
    paths = [bench.path / "results" / name for name in (".r1-c0-a1.9.safetensors.part", "r1-c0-a1.9.safetensors")]
    for path in paths:
        path.write_bytes(b"half")
    bench.commit()
    assert all(path.exists() for path in paths)
    bench.restart()
    assert not any(path.exists() for path in paths)
