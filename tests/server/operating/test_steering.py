"""A run that is steered: paused, drained, its workers readmitted; the bits are those of one that nobody steered."""

from collections.abc import Callable

import pytest

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.names import WorkerId
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.operating.steering import SteeringError, resume_unattended
from lotteryfl.server.rounds.work import Step
from lotteryfl.server.rounds.workers import AsideError
from lotteryfl.server.store.rundb.events import newest_events
from lotteryfl.server.store.status import status_of
from tests.support.bench import CPU, Bench, TinyTask, tiny_experiment

Drive = Callable[..., Bench]

ACCEPTED, REFUSED = pb.SubmitReply.ACCEPTED, pb.SubmitReply.REFUSED
PAUSED = "paused by anna: new disk?"


def pause(bench: Bench) -> None:
    assert bench.coordinator.steering.pause("anna", "new disk\n") == f"the run is {PAUSED}"


def resume(bench: Bench) -> None:
    assert bench.coordinator.steering.resume("anna", "") == "the run goes on"


# ---- paused


def test_a_paused_run_gives_nothing_out_and_what_is_under_work_counts(drive: Drive) -> None:
    bench = drive()
    worker, other = bench.register(), bench.register("other")
    work = bench.take(worker)
    pause(bench)
    assert bench.coordinator.lease(other) is None
    assert bench.submit(worker, bench.do(work)).verdict == ACCEPTED
    assert bench.coordinator.lease(worker) is None
    assert bench.coordinator.advance() is Step.WAIT
    assert bench.coordinator.status().goes_on == "no time passes for the round until the run is resumed"
    for status in (bench.coordinator.status(), status_of(bench.run)):
        assert (status.state, status.reason, status.results) == (pb.RunStatus.RUNNING, PAUSED, 1)
    resume(bench)
    assert status_of(bench.run).reason == bench.coordinator.status().reason == ""
    assert bench.finish().bits() == drive(name="undisturbed").finish().bits()


def test_what_its_worker_has_not_received_is_sent_again_while_the_run_is_paused(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    work = bench.take(worker)
    pause(bench)
    again = bench.take(worker)
    assert again.assignment.assignment_id == work.assignment.assignment_id
    assert bench.coordinator.lease(worker, [again.assignment.assignment_id]) is None


def test_no_time_passes_for_a_paused_run(drive: Drive) -> None:
    """Ten deadlines long: neither the round nor a lease comes to its end, and no attempt is spent."""
    bench = drive(tiny_experiment(round={"deadline": 100, "lease": 10, "max_attempts": 1, "min_results": 3}))
    worker = bench.register()
    bench.now = 60.0
    bench.coordinator.heartbeat(worker, [])
    bench.coordinator.advance()
    work = bench.take(worker)
    pause(bench)
    for bench.now in range(63, 1063, 3):
        assert bench.coordinator.advance() is Step.WAIT
    resume(bench)
    assert bench.submit(worker, bench.do(work)).verdict == ACCEPTED
    for _ in range(13):  # of the deadline's 100 s 60 had passed
        bench.now += 3
        bench.coordinator.heartbeat(worker, [])
        assert bench.coordinator.advance() is Step.WAIT
    assert bench.finish().bits() == drive(name="undisturbed").finish().bits()


def test_after_a_pause_the_deadline_is_as_far_away_as_it_was(drive: Drive) -> None:
    bench = drive(tiny_experiment(round={"deadline": 100, "lease": 10, "min_results": 1}))
    worker = bench.register()
    work = bench.take(worker)
    bench.submit(worker, bench.do(work))
    pause(bench)
    for bench.now in range(3, 1000, 3):
        bench.coordinator.advance()
    resume(bench)
    bench.now += 99
    for _ in range(2):  # the first look finds that the coordinator stood still
        assert bench.coordinator.advance() is Step.WAIT
    for _ in range(34):
        bench.now += 3
        step = bench.coordinator.advance()
    assert step is Step.COMMIT


def test_a_pause_outlives_a_restart(drive: Drive) -> None:
    bench = drive()
    pause(bench)
    bench.restart()
    worker = bench.register()
    assert bench.coordinator.lease(worker) is None
    assert bench.coordinator.status().reason == PAUSED
    assert bench.coordinator.steering.pause("bert", "") == f"the run is {PAUSED} already"
    resume(bench)
    bench.restart()
    assert bench.coordinator.steering.resume("anna", "") == "the run was not paused"
    assert bench.finish().bits() == drive(name="undisturbed").finish().bits()


def test_a_round_whose_last_results_come_during_a_pause_is_committed_and_no_work_of_the_next_given_out(
    drive: Drive,
) -> None:
    bench = drive()
    worker = bench.register()
    for _ in range(2):
        assert bench.submit(worker, bench.do(bench.take(worker))).verdict == ACCEPTED
    last = bench.take(worker)
    pause(bench)
    assert bench.submit(worker, bench.do(last)).verdict == ACCEPTED
    bench.commit()
    assert bench.coordinator.round == 2
    assert bench.coordinator.advance() is Step.WAIT
    assert bench.coordinator.lease(worker) is None
    resume(bench)
    assert bench.finish().bits() == drive(name="undisturbed").finish().bits()


def test_a_paused_run_is_not_driven_by_who_cannot_be_told_to_go_on(drive: Drive) -> None:
    bench = drive()
    pause(bench)
    with pytest.raises(LotteryFLError, match=rf"run: is {PAUSED[:-1]}\?; `lotteryfl resume .*run` lets it go on$"):
        Simulation(bench.run, TinyTask(), CPU)
    bench.close()
    assert resume_unattended(bench.restart().run, "") == "the run goes on"
    assert bench.restart().finish().bits() == drive(name="undisturbed").finish().bits()


# ---- stopped


def test_that_somebody_has_stopped_the_process_is_one_event(drive: Drive) -> None:
    bench = drive()
    for _ in range(2):
        assert bench.coordinator.steering.stopped("anna", "to move it") == "the coordinator ends"
    bench.coordinator.stop()
    found = [event.text for event in newest_events(bench.run.database) if event.kind == "stopped"]
    assert found == ["stopped by anna: to move it"]


# ---- drained


def test_a_drained_run_ends_with_its_open_round_and_goes_on_from_there(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    for _ in range(2):  # said twice, it is said once
        assert bench.coordinator.steering.drain("anna", "") == "the coordinator ends when the open round is committed"
    assert bench.coordinator.status().reason == "the open round is the last here: drained by anna"
    bench.do_all(worker)
    bench.commit()
    assert bench.coordinator.advance() is Step.ENDED
    assert (bench.coordinator.is_over, bench.coordinator.state) == (True, "running")
    assert bench.coordinator.lease(worker) is None
    bench.restart()
    assert (bench.coordinator.round, bench.coordinator.is_over, bench.coordinator.reason) == (2, False, "")
    assert bench.finish().bits() == drive(name="undisturbed").finish().bits()


def test_a_run_that_finishes_while_it_is_drained_has_finished(drive: Drive) -> None:
    bench = drive()
    while not bench.coordinator.is_final:
        bench.do_all(bench.register())
        bench.commit()
    bench.coordinator.steering.drain("anna", "")
    bench.do_all(bench.register())
    bench.commit()
    assert (bench.coordinator.state, bench.coordinator.reason) == ("finished", "")
    assert not bench.coordinator.steering.is_drained


def test_a_paused_run_is_not_drained(drive: Drive) -> None:
    bench = drive()
    pause(bench)
    with pytest.raises(SteeringError, match=r"^the run is paused by anna: new disk\?: resume it to drain it"):
        bench.coordinator.steering.drain("anna", "")


# ---- readmitted


def send_rubbish(bench: Bench, worker: WorkerId, times: int) -> None:
    for _ in range(times):
        answer = bench.do(bench.take(worker))
        answer.result.examples = 0
        assert bench.submit(worker, answer).verdict == REFUSED


def test_who_was_put_aside_gets_work_again_and_is_put_aside_again(drive: Drive) -> None:
    """What counted before does not count again, neither against it nor as attempts of its clients."""
    bench = drive(tiny_experiment(checks={"max_refusals": 2}, round={"max_attempts": 2}))
    send_rubbish(bench, bench.register("bad/1"), 2)
    with pytest.raises(AsideError):
        bench.register("bad/2")
    text = bench.coordinator.steering.readmit("bad/2", "anna", "")
    assert text == "worker bad gets work again, once it is started again"
    assert not bench.coordinator.status().refusals[0].aside
    bench.restart()
    bad = bench.register("bad/2")
    send_rubbish(bench, bad, 1)
    assert bench.submit(bad, bench.do(bench.take(bad))).verdict == ACCEPTED
    send_rubbish(bench, bad, 1)
    with pytest.raises(AsideError, match="4 of its results were refused"):
        bench.register("bad/1")
    rows = bench.run.database.assignments(1)
    assert sum(row.forgiven for row in rows) == 4
    assert bench.finish().bits() == drive(name="undisturbed").finish().bits()


def test_who_is_not_aside_is_named(drive: Drive) -> None:
    bench = drive(tiny_experiment(checks={"max_refusals": 1}))
    send_rubbish(bench, bench.register("bad"), 1)
    with pytest.raises(SteeringError, match=r"^worker 'good' is not put aside; put aside: bad$"):
        bench.coordinator.steering.readmit("good", "anna", "")
