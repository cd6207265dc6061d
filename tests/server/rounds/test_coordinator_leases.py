"""Leases, workers and restarts, over a real run directory with a clock that is passed in."""

from collections.abc import Callable

import pytest

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.work import Step, Work
from lotteryfl.server.rounds.workers import UnknownWorkerError
from tests.support.bench import Bench, tiny_experiment

Drive = Callable[..., Bench]

ACCEPTED, DUPLICATE, STALE, REFUSED = (
    pb.SubmitReply.ACCEPTED,
    pb.SubmitReply.DUPLICATE,
    pb.SubmitReply.STALE,
    pb.SubmitReply.REFUSED,
)


def progress(assignment_id: str) -> list[pb.AssignmentProgress]:
    return [pb.AssignmentProgress(assignment_id=assignment_id, epoch=1, step=2, loss=0.5)]


def test_a_heartbeat_keeps_a_lease_and_tells_of_a_lost_one(drive: Drive) -> None:
    bench = drive()
    worker, other = bench.register("w"), bench.register("other")
    id_ = bench.take(worker).assignment.assignment_id
    for bench.now in (9, 18, 27):
        assert bench.coordinator.heartbeat(worker, progress(id_)) == []
        bench.coordinator.advance()
    assert bench.coordinator.status().in_flight == [f"client {id_[4]} on w: epoch 1, loss 0.500"]
    assert bench.coordinator.heartbeat(other, progress(id_)) == [id_]
    assert bench.coordinator.heartbeat(worker, progress("nonsense")) == ["nonsense"]
    bench.now = 37
    bench.coordinator.heartbeat(other, [])
    bench.coordinator.advance()
    assert bench.coordinator.heartbeat(worker, progress(id_)) == [id_]


def test_a_new_incarnation_takes_its_leases_back_at_once(drive: Drive) -> None:
    bench = drive()
    old = bench.register("gpu", "1")
    answer = bench.do(bench.take(old))
    assert bench.register("gpu", "1") == old  # the same process, after a restart of the coordinator
    assert bench.coordinator.heartbeat(old, progress(answer.result.assignment_id)) == []
    new = bench.register("gpu", "2")
    assert bench.take(new).assignment.assignment_id == answer.result.assignment_id.replace("a1", "a2")
    assert bench.submit(old, answer).verdict == STALE
    with pytest.raises(UnknownWorkerError):
        bench.coordinator.lease(old)


def test_a_worker_gets_only_the_clients_whose_data_it_holds(drive: Drive) -> None:
    bench = drive(tiny_experiment(clients_per_round=4))
    pinned = bench.register("pinned", clients={2})
    assert bench.take(pinned).assignment.client == 2
    answer = bench.do(bench.take(pinned))
    assert bench.submit(pinned, answer).verdict == ACCEPTED
    assert bench.coordinator.lease(pinned) is None


def test_what_a_worker_hands_back_is_given_out_at_once_with_the_reason_on_record(drive: Drive) -> None:
    bench = drive()
    a, b = bench.register("a"), bench.register("b")
    id_ = bench.take(a).assignment.assignment_id
    bench.coordinator.release(b, id_, "not b's to give")
    bench.coordinator.release(a, id_, "a is out of memory")
    (row,) = [row for row in bench.run.database.assignments(1) if row.reason]
    assert (row.state, row.reason) == ("waiting", "a is out of memory")
    assert bench.take(b).assignment.assignment_id == id_.replace("a1", "a2")


def test_who_leaves_holds_nothing_and_its_silence_means_nothing(drive: Drive) -> None:
    bench = drive()
    leaving = [bench.register(name) for name in "abc"]
    ids = [bench.take(worker).assignment.assignment_id for worker in leaving]
    for worker in leaving[:2]:
        bench.coordinator.leave(worker, "stopped")
    assert [row.reason for row in bench.run.database.assignments(1)].count("stopped") == 2
    assert bench.coordinator.status().workers == 1
    other = bench.register("other")
    assert bench.take(other).assignment.assignment_id in {id_.replace("a1", "a2") for id_ in ids[:2]}
    bench.now = 10
    bench.coordinator.heartbeat(other, [])
    assert bench.coordinator.advance() is Step.OFFER  # one of two is silent, not three of four


def test_after_max_attempts_a_client_sits_the_round_out_on_record(drive: Drive) -> None:
    bench = drive(tiny_experiment(round={"max_attempts": 2}))
    worker = bench.register()
    unlucky = bench.take(worker).assignment.client
    for attempt in (1, 2):
        bench.coordinator.release(worker, f"r1-c{unlucky}-a{attempt}", f"failed {attempt}")
        bench.coordinator.lease(worker)
    bench.do_all(worker)
    bench.commit()
    (row,) = [row for row in bench.run.database.assignments(1) if row.state == "dropped"]
    assert (row.client, row.attempt, row.reason) == (unlucky, 2, "failed 2")
    assert bench.coordinator.status().last.stragglers == [unlucky]
    reason = bench.run.database._connection.execute("SELECT reason FROM rounds WHERE round = 1").fetchone()[0]
    assert reason == "1 of 3 clients sat it out: clients were given up"
    assert bench.coordinator.round == 2


@pytest.mark.parametrize(("told_to_stop", "state"), [(True, "waiting"), (False, "dropped")])
def test_workers_that_are_told_to_stop_cost_an_assignment_no_attempt(
    drive: Drive, told_to_stop: bool, state: str
) -> None:
    bench = drive(tiny_experiment(round={"max_attempts": 2}))
    leaving = bench.register("a", clients={0, 1, 2, 3})
    client = bench.take(leaving).assignment.client
    bench.coordinator.leave(leaving, "a: stopped", told_to_stop=told_to_stop)
    for name in "bc":
        worker = bench.register(name, clients={client})
        if work := bench.coordinator.lease(worker):
            assert work.assignment.client == client
            bench.coordinator.leave(worker, f"{name}: stopped", told_to_stop=told_to_stop)
    (row,) = [row for row in bench.run.database.assignments(1) if row.client == client]
    assert row.state == state


def test_a_clients_attempts_are_those_of_different_workers(drive: Drive) -> None:
    """A worker that only registered is not waited for; one that is lost is no longer."""
    bench = drive(tiny_experiment(clients=1, clients_per_round=1))
    first, second, _ = (bench.register(name) for name in "abc")
    assert bench.take(first).assignment.assignment_id == "r1-c0-a1"
    assert bench.coordinator.lease(second) is None
    bench.coordinator.release(first, "r1-c0-a1", "failed")
    assert bench.coordinator.lease(first) is None
    assert bench.take(second).assignment.assignment_id == "r1-c0-a2"
    bench.coordinator.release(second, "r1-c0-a2", "failed")
    assert bench.take(first).assignment.assignment_id == "r1-c0-a3", "both have tried"
    bench.coordinator.release(first, "r1-c0-a3", "failed")
    (row,) = bench.run.database.assignments(1)
    assert (row.state, row.attempt, row.worker) == ("dropped", 3, first)


def test_what_a_worker_has_failed_at_waits_for_no_worker_that_has_left(drive: Drive) -> None:
    bench = drive(tiny_experiment(clients=1, clients_per_round=1))
    first, second = (bench.register(name) for name in "ab")
    bench.take(first)
    assert bench.coordinator.lease(second) is None
    bench.coordinator.release(first, "r1-c0-a1", "failed")
    bench.coordinator.leave(second, "b: stopped", told_to_stop=True)
    assert bench.take(first).assignment.assignment_id == "r1-c0-a2"


def test_what_never_arrived_at_its_worker_costs_no_attempt(drive: Drive) -> None:
    bench = drive(tiny_experiment(round={"max_attempts": 1}))
    lost = bench.register("a", clients={0, 1, 2, 3})
    work = bench.coordinator.lease(lost, travels=True)
    assert work is not None
    client = work.assignment.client
    bench.coordinator.leave(lost, "a: killed")
    worker = bench.register("b", clients={client})
    again = bench.coordinator.lease(worker, travels=True)
    assert again is not None
    assert bench.coordinator.heartbeat(worker, progress(again.assignment.assignment_id)) == []
    bench.coordinator.leave(worker, "b: killed")
    (row,) = [row for row in bench.run.database.assignments(1) if row.client == client]
    assert (row.state, row.attempt, row.forgiven) == ("dropped", 2, 1)


def test_a_restart_continues_the_round_with_its_leases(drive: Drive) -> None:
    bench = drive()
    a, b = bench.register("a"), bench.register("b")
    assert bench.submit(a, bench.do(bench.take(a))).verdict == ACCEPTED
    held = bench.do(bench.take(a))
    bench.now = 5000
    bench.restart()
    with pytest.raises(UnknownWorkerError):
        bench.coordinator.heartbeat(a, [])
    assert bench.coordinator.advance() is Step.WAIT  # the lease and the deadline start anew
    assert bench.coordinator.status().results == 1
    assert bench.register("b", "1") == b
    other = bench.take(b)
    assert other.assignment.assignment_id != held.result.assignment_id
    assert bench.register("a", "1") == a
    assert bench.take(a).assignment.assignment_id == held.result.assignment_id
    assert bench.submit(a, held).verdict == ACCEPTED
    assert bench.submit(b, bench.do(other)).verdict == ACCEPTED
    assert bench.coordinator.advance() is Step.COMMIT


def test_leases_of_workers_that_are_known_to_be_gone_are_taken_back(drive: Drive) -> None:
    bench = drive()
    bench.take(bench.register("gone"))
    bench.restart().coordinator.take_back_all("it is gone")
    assert bench.take(bench.register("new")).assignment.assignment_id.endswith("-a2")


def test_how_long_nothing_changes_by_the_clock_alone(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    assert bench.coordinator.seconds_until_check() == 10 / 3  # a third of a lease, at most
    bench.now = 5
    bench.take(worker)
    bench.now = 14
    assert bench.coordinator.seconds_until_check() == 1
    bench.now = 16
    assert bench.coordinator.seconds_until_check() == 0


def test_attempts_count_over_restarts_but_for_what_the_coordinator_lost(drive: Drive) -> None:
    bench = drive(tiny_experiment(round={"max_attempts": 2}))
    unlucky = bench.take(bench.register()).assignment.client
    bench.restart().coordinator.take_back_all("the run was started anew")
    states = []
    for attempt in (2, 3):
        worker = bench.restart().register()
        bench.coordinator.lease(worker)
        bench.coordinator.release(worker, f"r1-c{unlucky}-a{attempt}", "failed")
        states += [row.state for row in bench.run.database.assignments(1) if row.client == unlucky]
    assert states == ["waiting", "dropped"]


def test_a_heartbeat_renews_also_what_is_still_on_its_way_to_the_worker(drive: Drive) -> None:
    bench = drive()
    worker, other = bench.register("w"), bench.register("other")
    bench.take(worker)
    for bench.now in (6, 12):
        bench.coordinator.heartbeat(worker, [])
        bench.coordinator.heartbeat(other, [])
        assert bench.coordinator.advance() is Step.WAIT


def test_when_most_workers_are_silent_at_once_they_have_one_more_lease_time(drive: Drive) -> None:
    bench = drive()
    a, b, idle = (bench.register(name) for name in ("a", "b", "idle"))
    answers = [bench.do(bench.take(worker)) for worker in (a, b)]
    for bench.now in (5, 10):
        bench.coordinator.heartbeat(idle, [])
        assert bench.coordinator.advance() is Step.WAIT
    assert bench.submit(a, answers[0]).verdict == ACCEPTED
    for bench.now in (15, 19.9):
        bench.coordinator.heartbeat(idle, [])
        assert bench.coordinator.advance() is Step.WAIT
    bench.now = 20
    assert bench.coordinator.advance() is Step.OFFER
    assert bench.submit(b, answers[1]).verdict == STALE


def test_after_a_stop_of_the_coordinator_leases_and_deadline_have_their_time_again(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    answer = bench.do(bench.take(worker))
    bench.now = 5000
    assert bench.coordinator.advance() is Step.WAIT
    bench.now = 5009
    assert bench.coordinator.advance() is Step.WAIT
    assert bench.submit(worker, answer).verdict == ACCEPTED


def test_a_result_is_answered_with_all_of_the_stack_that_another_has_got(drive: Drive) -> None:
    bench = drive(tiny_experiment(clients=6, clients_per_round=6, engine={"stacked": 3}))
    first = bench.register("a")
    ids: list[str] = []
    works: list[Work] = []
    while work := bench.coordinator.lease(first, ids):
        works.append(work)
        ids.append(work.assignment.assignment_id)
    assert len(ids) == 6
    bench.take(bench.register("b"))
    assert set(bench.submit(first, bench.do(works[0])).cancel) == set(ids[3:])


def test_nobody_takes_ahead_what_an_idle_worker_is_about_to_ask_for(drive: Drive) -> None:
    bench = drive(tiny_experiment(clients=4, clients_per_round=4))
    a, b, idle = (bench.register(name) for name in ("a", "b", "idle"))
    of_a, of_b = (bench.take(worker).assignment.assignment_id for worker in (a, b))
    assert bench.coordinator.lease(a, [of_a]) is not None, "two wait, one of them for the idle one"
    assert bench.coordinator.lease(b, [of_b]) is None
    bench.now = 11
    assert bench.coordinator.lease(b, [of_b]) is not None, "who is silent will not ask"
    assert bench.coordinator.lease(idle) is not None, "and who asks all the same gets what has not begun"


def test_what_only_some_may_do_is_taken_ahead_whoever_is_idle(drive: Drive) -> None:
    bench = drive(tiny_experiment(clients=4, clients_per_round=4))
    holder = bench.register("holder", clients={0, 1})
    for name in "abcd":
        bench.register(name, clients={2, 3})
    assert bench.coordinator.lease(holder, [bench.take(holder).assignment.assignment_id]) is not None
