"""What happens in a run is on record with what makes it so, bounded; no worker that comes or goes waits for it."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.rounds.told import events as told
from lotteryfl.server.store.rundb import events as stored
from lotteryfl.server.store.rundb.events import Event, newest_events
from tests.support.bench import CPU, Bench, TinyTask, silent, simulated, tiny_experiment
from tests.support.damage import problems

Drive = Callable[..., Bench]


def of(bench: Bench, *kinds: str) -> list[Event]:
    """Return what is on record, of some kinds or of all."""
    return [event for event in newest_events(bench.run.database) if not kinds or event.kind in kinds]


def texts(bench: Bench, *kinds: str) -> list[str]:
    return [f"{event.kind} {event.client} {event.worker}: {event.text}" for event in of(bench, *kinds)]


def refuse(bench: Bench, worker: str) -> None:
    answer = bench.do(bench.take(worker))  # type: ignore[arg-type]
    answer.result.examples = 0
    assert bench.submit(worker, answer).verdict == pb.SubmitReply.REFUSED  # type: ignore[arg-type]


def test_a_run_begins_and_ends_on_record(drive: Drive) -> None:
    bench = drive().finish()
    kinds = [event.kind for event in of(bench)]
    assert kinds == ["started", "joined", "finished"]
    started, _, finished = of(bench)
    assert (started.text, started.round) == ("the coordinator has begun, with 0 rounds committed", 1)
    assert (finished.text, finished.round, finished.client) == ("all 2 rounds are committed", 3, None)
    assert started.id < finished.id
    assert started.at <= finished.at
    assert started.at.endswith("Z")
    assert problems(bench.path) == []


def test_every_start_of_a_coordinator_is_on_record(drive: Drive) -> None:
    bench = drive()
    bench.coordinator.advance()
    bench.coordinator.stop()
    bench.restart().coordinator.advance()
    assert [event.kind for event in of(bench)] == ["started", "stopped", "started"]
    bench.finish()
    bench.restart()  # which has nothing to do any more
    bench.coordinator.stop()
    assert [event.kind for event in of(bench)][-1] == "finished"


def test_a_simulation_that_is_interrupted_has_stopped(drive: Drive) -> None:
    def interrupt(status: pb.RunStatus) -> None:
        silent(status)
        if status.round == 1:
            raise KeyboardInterrupt

    bench = drive()
    with pytest.raises(KeyboardInterrupt):
        Simulation(bench.run, TinyTask(), CPU).run(interrupt)
    assert texts(bench, "stopped") == ["stopped None : the coordinator has ended, in round 2"]


def test_refusals_are_on_record_in_their_transaction_and_so_is_who_is_put_aside(drive: Drive) -> None:
    bench = drive(tiny_experiment(checks={"max_refusals": 2}, round={"max_attempts": 5}))
    worker = bench.register("bad")
    refuse(bench, worker)
    refuse(bench, worker)
    refused = of(bench, "refused")
    assert [event.worker for event in refused] == ["bad", "bad"]
    assert all("examples" in event.text for event in refused)
    (aside,) = of(bench, "aside")
    assert (aside.worker, aside.client) == ("bad", None)
    assert aside.text.startswith("worker bad is put aside for the rest of this run: 2 of its results were refused")
    bench.restart()
    assert len(of(bench, "refused", "aside")) == 3


def test_what_a_failed_transaction_would_have_changed_has_not_happened(drive: Drive) -> None:
    bench = drive()
    bench.register("near")  # which is remembered, and written with what is next
    worker = bench.register("far")
    work, database = bench.take(worker), bench.run.database
    database.select("CREATE TEMP TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    with pytest.raises(sqlite3.IntegrityError, match="disk is full"):
        bench.coordinator.release(worker, work.assignment.assignment_id, "cannot")
    database.select("DROP TRIGGER full")
    assert of(bench, "retried") == []
    bench.coordinator.release(worker, work.assignment.assignment_id, "cannot")
    (retried,) = of(bench, "retried")
    assert (retried.client, retried.worker, retried.text) == (work.assignment.client, "far", "cannot")


def test_retries_give_ups_and_who_is_late_are_told_apart(drive: Drive) -> None:
    bench = drive(tiny_experiment(clients_per_round=4, round={"max_attempts": 2, "deadline": 50, "lease": 50}))
    worker = bench.register("w")
    given_up = bench.take(worker)
    bench.coordinator.release(worker, given_up.assignment.assignment_id, "no data")
    again = bench.take(worker)
    assert again.assignment.client == given_up.assignment.client
    bench.coordinator.release(worker, again.assignment.assignment_id, "no data again")
    assert [event.text for event in of(bench, "retried", "given-up")] == ["no data", "no data again"]
    assert [event.kind for event in of(bench, "retried", "given-up")] == ["retried", "given-up"]
    done = bench.take(worker)
    bench.submit(worker, bench.do(done))
    late = bench.take(worker).assignment.client
    for bench.now in (25.0, 50.0):
        bench.coordinator.heartbeat(worker, [])
        bench.coordinator.advance()
    bench.commit()
    found = of(bench, "late")
    assert {event.client for event in found} == set(range(4)) - {given_up.assignment.client, done.assignment.client}
    assert late in {event.client for event in found}
    assert {(event.round, event.text) for event in found} == {(1, "no result by the deadline of 50 s")}


def test_a_round_that_is_tried_again_and_a_run_that_fails(drive: Drive) -> None:
    bench = drive(tiny_experiment(round={"deadline": 10, "lease": 10, "retries": 1, "min_results": 1}))
    for bench.now in (5.0, 10.0, 15.0, 20.0):
        bench.coordinator.advance()
    retry, failed = of(bench, "round-retry", "failed")
    assert retry.text.startswith("trying again: round 1: 0 of 3 results")
    assert failed.text == bench.coordinator.reason


def test_who_comes_and_goes_waits_for_no_disk_and_is_on_record_within_a_second(drive: Drive) -> None:
    bench = drive(tiny_experiment(clients_per_round=4))
    bench.coordinator.advance()
    before = of(bench)
    away = bench.register("away", clients={2, 3})
    bench.register("here")
    assert of(bench) == before
    bench.coordinator.advance()
    assert of(bench) == before, "a second has not passed"
    bench.now = 1.0
    bench.coordinator.advance()
    assert texts(bench, "joined") == ["joined None away: holds 2 clients", "joined None here: holds every client"]
    bench.now = 12.0
    bench.coordinator.advance()
    assert {event.worker: event.text for event in of(bench, "lost")} == dict.fromkeys(
        ("away", "here"), "not heard of for 12 s"
    )
    bench.coordinator.heartbeat(away, [])
    bench.now = 14.0
    bench.coordinator.advance()
    assert texts(bench, "back") == ["back None away: is heard of again"]
    bench.coordinator.leave(away, "away: was stopped", told_to_stop=True)
    bench.now = 16.0
    bench.coordinator.advance()
    assert texts(bench, "left") == ["left None away: was stopped"]


def test_a_thousand_workers_that_join_at_once_are_bounded(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "_MOST_REMEMBERED", 50)
    bench = drive()
    for number in range(100):
        bench.register(f"w{number}")
    assert of(bench) == []
    bench.coordinator.advance()
    joined = of(bench, "joined")
    assert len(joined) == 50
    assert joined[-1].text == "51 more workers came and went than are told"


def test_only_the_newest_are_kept(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "MOST_KEPT", 5)
    bench = drive()
    for number in range(20):
        bench.coordinator.leave(bench.register(f"w{number}"), "")
        bench.now += 1.0
        bench.coordinator.advance()
    kept = of(bench)
    assert [event.worker for event in kept] == ["w17", "w18", "w18", "w19", "w19"]
    assert [event.id for event in kept] == list(range(kept[0].id, kept[0].id + 5))
    assert newest_events(bench.run.database, kept[2].id) == kept[3:]
    assert newest_events(bench.run.database, most=2) == kept[3:]


def test_bits_are_the_same_however_much_has_happened(drive: Drive, tmp_path: Path) -> None:
    with simulated(tmp_path / "calm", tiny_experiment()) as run:
        expected = run.database.get("model_sha256")
    bench = drive(name="stormy")
    for number in range(5):
        bench.register(f"w{number}")
    worker = bench.register("w0", "2")
    bench.coordinator.release(worker, bench.take(worker).assignment.assignment_id, "not now")
    assert bench.finish().bits()[0] == expected
