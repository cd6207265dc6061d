"""The rounds over a real run directory, with a clock that is passed in and every answer looked at."""

from collections.abc import Callable

import pytest
import torch

from lotteryfl.common.errors import ExperimentError
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.conclusion import Conclusion
from lotteryfl.server.rounds.work import Step
from lotteryfl.server.rounds.workers import ReplacedError
from lotteryfl.server.store.rundb.rows import AssignmentRow
from lotteryfl.server.strategies.base import ClientState
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
        assert work.assignment.plan == bench.coordinator.strategy.plan(1, ClientState(work.assignment.client))
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
    assert isinstance(bench.coordinator.wanted(worker, answer.result.assignment_id), AssignmentRow)
    assert isinstance(bench.coordinator.wanted(worker, answer.result.assignment_id), AssignmentRow)
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
    conclusion = bench.conclude()
    assert bench.submit(late, answer).verdict == STALE
    assert bench.coordinator.lease(worker) is None
    bench.coordinator.commit(conclusion)
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
        bench.coordinator.commit(Conclusion())


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
    conclusion = bench.conclude()
    assert bench.conclude() == conclusion
    bench.commit()
    assert conclusion.model is not None
    assert bench.run.database.get("model_sha256") == conclusion.model.sha256


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
