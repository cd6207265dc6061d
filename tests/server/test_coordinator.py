"""The rounds over a real run directory, with a clock that is passed in and every answer looked at."""

from collections.abc import Callable

import pytest
import torch
from driving import Bench, tiny_experiment

from common.errors import ExperimentError
from protos import lotteryfl_pb2 as pb
from server.coordinator import Step
from server.workers import ReplacedError, UnknownWorkerError

Drive = Callable[..., Bench]

ACCEPTED, DUPLICATE, STALE, REFUSED = (
    pb.SubmitReply.ACCEPTED,
    pb.SubmitReply.DUPLICATE,
    pb.SubmitReply.STALE,
    pb.SubmitReply.REFUSED,
)


def progress(assignment_id: str) -> list[pb.AssignmentProgress]:
    return [pb.AssignmentProgress(assignment_id=assignment_id, epoch=1, step=2, loss=0.5)]


# ---- sampling and assignments


def test_a_round_is_sampled_without_replacement_and_the_same_in_every_run(drive: Drive) -> None:
    experiment = tiny_experiment(rounds=4, clients=6, clients_per_round=3)
    rounds: list[list[list[int]]] = []
    for name in ("a", "b"):
        bench = drive(experiment, name=name)
        worker = bench.register()
        seen: list[list[int]] = []
        while not bench.coordinator.is_final:
            seen.append([row.client for row in bench.run.database.assignments(bench.coordinator.round)])
            bench.do_all(worker)
            bench.commit()
        rounds.append(seen)
    assert rounds[0] == rounds[1]
    assert all(len(set(clients)) == 3 and clients == sorted(clients) for clients in rounds[0])
    assert len({tuple(clients) for clients in rounds[0]}) > 1


def test_after_the_last_round_every_client_is_measured_once_and_the_model_stays(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    for _ in range(2):
        bench.do_all(worker)
        bench.commit()
    model = bench.run.database.get("model_sha256")
    assert bench.coordinator.is_final
    works = [bench.run.database.assignments(3)]
    assert [row.client for row in works[0]] == [0, 1, 2, 3]
    assert not any(row.plan.HasField("prune") for row in works[0])
    bench.finish()
    assert bench.run.database.get("model_sha256") == model
    assert (bench.coordinator.advance(), bench.coordinator.state) == (Step.ENDED, "finished")
    assert bench.coordinator.lease(worker) is None


def test_an_assignment_says_what_to_do_from_what_with_which_seed(drive: Drive) -> None:
    bench = drive()
    works = [bench.take(bench.register(name)) for name in "abc"]
    assert len({work.assignment.seed for work in works}) == 3
    assert {work.assignment.round for work in works} == {1}
    for work in works:
        assert work.assignment.assignment_id == f"r1-c{work.assignment.client}-a1"
        assert work.assignment.plan == bench.coordinator.strategy.plan()
        assert (work.source, work.is_own_result) == ("models/round-0000.safetensors", False)
        assert work.assignment.mask_digest == ""


def test_an_unknown_strategy_is_named(drive: Drive) -> None:
    with pytest.raises(ExperimentError, match=r"strategy.name = 'guess': must be one of lotteryfl, fedavg"):
        drive(tiny_experiment(strategy={"name": "guess"}))


# ---- exactly once in effect


def test_the_same_result_twice_counts_once(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    answer = bench.do(bench.take(worker))
    assert bench.submit(worker, answer).verdict == ACCEPTED
    before = bench.coordinator.status().results, bench.files("results")
    assert bench.submit(worker, answer).verdict == DUPLICATE
    assert (bench.coordinator.status().results, bench.files("results")) == before
    bench.do_all(worker)
    bench.commit()
    assert bench.submit(worker, answer).verdict == DUPLICATE  # after its round, too
    assert bench.restart().submit(worker, answer).verdict == DUPLICATE


def test_two_uploads_of_one_result_at_once_count_once(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    answer = bench.do(bench.take(worker))
    assert bench.coordinator.verdict_before_body(worker, answer.result.assignment_id) is None
    assert bench.coordinator.verdict_before_body(worker, answer.result.assignment_id) is None
    assert [bench.submit(worker, answer).verdict for _ in range(2)] == [ACCEPTED, DUPLICATE]


def test_a_result_under_an_expired_and_reissued_lease_is_stale(drive: Drive) -> None:
    bench = drive()
    slow, quick = bench.register("slow"), bench.register("quick")
    first = bench.take(slow)
    answer = bench.do(first)
    bench.now = 10
    bench.coordinator.heartbeat(quick, [])
    assert bench.coordinator.advance() is Step.OFFER
    again = bench.take(quick)
    assert again.assignment.assignment_id == answer.result.assignment_id.replace("a1", "a2")
    assert again.assignment.seed == first.assignment.seed
    assert bench.submit(slow, answer).verdict == STALE
    assert bench.submit(quick, answer).verdict == STALE  # the right worker under the wrong attempt
    assert bench.coordinator.status().results == 0
    assert bench.submit(quick, bench.do(again)).verdict == ACCEPTED
    assert bench.submit(slow, answer).verdict == STALE
    (row,) = bench.run.database.results(1)
    assert row.client == again.assignment.client


def test_a_result_of_an_old_round_or_of_nobody_is_stale(drive: Drive) -> None:
    bench = drive(tiny_experiment(round={"deadline": 8, "lease": 8}))
    late, worker = bench.register("late"), bench.register()
    answer = bench.do(bench.take(late))
    bench.do_all(worker)
    bench.now = 8
    bench.commit()
    assert bench.submit(late, answer).verdict == STALE
    for id_ in ("", "nonsense", "r1-c0-a9", "r9-c0-a1"):
        answer.result.assignment_id = id_
        assert bench.submit(worker, answer).verdict == STALE
    assert bench.coordinator.round == 2
    assert bench.coordinator.status().results == 0


def test_a_result_that_comes_while_the_round_is_aggregated_is_stale_and_not_half_counted(drive: Drive) -> None:
    bench = drive(tiny_experiment(round={"deadline": 8, "lease": 8}))
    late, worker = bench.register("late"), bench.register()
    answer = bench.do(bench.take(late))
    bench.do_all(worker)
    bench.now = 8
    assert bench.coordinator.advance() is Step.COMMIT
    model = bench.aggregate()
    assert bench.submit(late, answer).verdict == STALE
    assert bench.coordinator.lease(worker) is None
    bench.coordinator.commit(model)
    assert [row.client for row in bench.run.database.results(1)] == sorted(
        {row.client for row in bench.run.database.assignments(1)} - {int(answer.result.assignment_id[4])}
    )
    assert bench.run.database.clients()[int(answer.result.assignment_id[4])].ticket == ""


def test_only_a_round_that_is_over_is_committed(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    bench.submit(worker, bench.do(bench.take(worker)))
    assert bench.coordinator.advance() is Step.WAIT
    with pytest.raises(ValueError, match="round 1 is still open"):
        bench.coordinator.commit(None)


# ---- leases, workers, restarts


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
    client = bench.take(bench.register("a", clients={0, 1, 2, 3})).assignment.client
    bench.coordinator.leave("a:1", "a: stopped", told_to_stop=told_to_stop)
    for name in "bc":
        worker = bench.register(name, clients={client})
        if work := bench.coordinator.lease(worker):
            assert work.assignment.client == client
            bench.coordinator.leave(worker, f"{name}: stopped", told_to_stop=told_to_stop)
    (row,) = [row for row in bench.run.database.assignments(1) if row.client == client]
    assert row.state == state


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


# ---- refusals


def test_a_refused_result_is_named_not_counted_and_its_assignment_given_out_again(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    answer = bench.do(bench.take(worker))
    key = next(key for key in answer.entries if key.startswith("kept/"))
    answer.entries[key][3] = torch.nan
    reply = bench.submit(worker, answer)
    assert reply.verdict == REFUSED
    assert reply.reason == f"{key}: value nan at flat index 3, expected finite"
    assert bench.run.database.results(1) == []
    assert bench.files("results") == set()
    (row,) = [row for row in bench.run.database.assignments(1) if row.reason]
    assert row.reason == f"refused: {reply.reason}"
    again = bench.take(worker)
    assert again.assignment.assignment_id.endswith("-a2")
    assert bench.submit(worker, bench.do(again)).verdict == ACCEPTED


def test_a_model_file_that_exists_already_is_written_anew(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    bench.do_all(worker)
    model = bench.aggregate()
    assert bench.aggregate() == model
    bench.commit()
    assert model is not None
    assert bench.run.database.get("model_sha256") == model.sha256


def test_a_status_says_where_the_run_stands(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    bench.submit(worker, bench.do(bench.take(worker)))
    id_ = bench.take(worker).assignment.assignment_id
    bench.coordinator.count_bytes(id_, down=100, up=10)
    bench.coordinator.count_bytes("", down=1)
    status = bench.coordinator.status()
    assert (status.state, status.strategy) == (pb.RunStatus.RUNNING, "lotteryfl")
    assert (status.round, status.rounds, status.clients, status.workers) == (0, 2, 4, 1)
    assert (status.assignments, status.results, len(status.in_flight)) == (3, 1, 1)
    assert (status.bytes_down, status.bytes_up) == (101, 10)
    assert not status.HasField("last")
    bench.do_all(worker)
    bench.commit()
    last = bench.coordinator.status().last
    assert (last.round, last.clients) == (1, 3)
    bench.now += 10.1
    assert bench.coordinator.status().workers == 0


def test_a_replaced_worker_does_not_come_back(drive: Drive) -> None:
    bench = drive()
    bench.register("gpu", "1")
    bench.register("gpu", "2")
    with pytest.raises(ReplacedError):
        bench.register("gpu", "1")
