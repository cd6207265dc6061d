"""What every worker is at, with the clock passed in."""

from collections.abc import Callable

import pytest

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.told import fleet as told
from tests.support.bench import Bench, tiny_experiment

Drive = Callable[..., Bench]


def by_name(fleet: pb.Fleet) -> dict[str, pb.WorkerStatus]:
    return {worker.machine.worker: worker for worker in fleet.workers}


def test_each_worker_is_told_with_what_it_has_and_how_far_that_is(drive: Drive) -> None:
    bench = drive(tiny_experiment(clients_per_round=4))
    bench.register("far", clients={2, 3})
    near = bench.register("near")
    bench.now = 3.0
    first = bench.take(near).assignment
    bench.now = 5.0
    sent = bench.coordinator.lease(near, {first.assignment_id}, travels=True)
    assert sent is not None
    bench.now = 9.0
    progress = pb.AssignmentProgress(assignment_id=first.assignment_id, epoch=2, step=7, loss=0.5)
    load = pb.WorkerLoad(memory=3 << 30, device_memory=1 << 30, steps_per_second=12.5)
    bench.coordinator.heartbeat(near, [progress], load)
    bench.coordinator.wanted(near, first.assignment_id)
    bench.now = 11.0
    fleet = bench.coordinator.fleet()
    assert [worker.machine.worker for worker in fleet.workers] == ["far", "near"]
    assert (fleet.round, fleet.others) == (1, 0)
    workers = by_name(fleet)
    silent = workers["far"]
    assert (silent.holds_all, silent.clients, silent.silent, silent.is_lost) == (False, 2, 11.0, True)
    assert not silent.holdings
    assert not silent.HasField("load")
    busy = workers["near"]
    assert (busy.holds_all, busy.clients, busy.silent, busy.is_lost) == (True, 0, 2.0, False)
    assert busy.load == load
    at_work, coming = busy.holdings
    assert at_work == pb.Holding(
        client=first.client, attempt=1, epoch=2, step=7, loss=0.5, held=8.0, lease=8.0, arrived=True, returning=True
    )
    assert coming == pb.Holding(client=sent.assignment.client, attempt=1, held=6.0, lease=8.0, arrived=False)


def test_what_is_returned_is_held_no_longer(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    work = bench.take(worker)
    assert len(bench.coordinator.fleet().workers[0].holdings) == 1
    bench.submit(worker, bench.do(work))
    assert not bench.coordinator.fleet().workers[0].holdings


def test_who_is_aside_is_told_though_it_is_not_registered_any_more(drive: Drive) -> None:
    bench = drive(tiny_experiment(checks={"max_refusals": 1}))
    worker = bench.register("bad")
    answer = bench.do(bench.take(worker))
    answer.result.examples = 0
    assert bench.submit(worker, answer).verdict == pb.SubmitReply.REFUSED
    bench.register("good")
    workers = by_name(bench.coordinator.fleet())
    assert workers["bad"].aside.startswith("worker bad is put aside for the rest of this run: 1 of its results")
    assert workers["good"].aside == ""
    assert bench.restart().coordinator.fleet().workers[0].aside == workers["bad"].aside


def test_a_fleet_that_is_too_large_for_a_message_is_cut(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = drive()
    for number in range(100):
        bench.register(f"worker-{number:03}")
    whole = bench.coordinator.fleet()
    monkeypatch.setattr(told, "_MOST_BYTES", whole.ByteSize() // 2)
    cut = bench.coordinator.fleet()
    assert 0 < len(cut.workers) < 100
    assert len(cut.workers) + cut.others == len(whole.workers) == 100
    assert cut.ByteSize() <= whole.ByteSize() // 2 + 64
