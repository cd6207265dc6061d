"""Who is there and who waits for whom, as log lines and in a status, with the clock passed in."""

import logging
import re
from collections.abc import Callable

import pytest

from lotteryfl.server.store.status import status_of
from tests.support.bench import Bench, tiny_experiment

Drive = Callable[..., Bench]

ENDS = "ends in {} s: without 1 more result it is tried again, or the run fails"

EVERYONE = tiny_experiment(clients_per_round=4)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged since the last call that is shown without `--verbose`."""
    shown = [each for each in caplog.records if each.levelno > logging.INFO or each.name.endswith(".attendance")]
    caplog.clear()
    return [record.getMessage() for record in shown]


def of_assignments(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged since the last call for `--verbose` alone."""
    others = [each for each in caplog.records if each.levelno == logging.INFO and each.name.endswith("coordinator")]
    caplog.clear()
    return [record.getMessage() for record in others]


@pytest.fixture(autouse=True)
def _as_the_program_has_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lotteryfl.coordinator.attendance")


def test_a_worker_that_is_lost_and_who_waits_for_it_are_told_once(
    drive: Drive, caplog: pytest.LogCaptureFixture
) -> None:
    bench = drive(EVERYONE)
    here, away = bench.register("here", clients={0, 1}), bench.register("away", clients={2, 3})
    held = bench.take(away).assignment.client
    for bench.now in (9.0, 10.0, 11.0, 19.0):
        bench.coordinator.heartbeat(here, [])
        bench.coordinator.advance()
        bench.coordinator.advance()
    assert told(caplog) == [
        f"r1-c{held}-a1 of away: expired: away was silent for 10 s; client {held} waits again",
        "away is lost: not heard of for 10 s",
        f"clients 2, 3 wait for away, heard of 10 s ago; the round {ENDS.format(90)}",
    ]
    bench.do_all(here)
    status = bench.coordinator.status()
    assert status.waits == ["clients 2, 3 wait for away, heard of 19 s ago"]
    assert status.heard == ["away was heard of 19 s ago", "here was heard of 0 s ago"]
    assert status.goes_on == "the round goes on without who is missing in 81 s"
    bench.coordinator.heartbeat(away, [])
    bench.coordinator.advance()
    assert told(caplog) == ["away is back"]
    assert bench.coordinator.status().waits == ["clients 2, 3 wait for a worker to be free"]
    assert bench.take(away).assignment.client == held
    bench.now = 29.0
    bench.coordinator.heartbeat(here, [])
    bench.coordinator.advance()
    assert told(caplog)[1] == "away is lost: not heard of for 10 s"


def test_a_leased_clients_line_says_when_its_lease_ends(drive: Drive) -> None:
    bench = drive(EVERYONE)
    held = bench.take(bench.register("away")).assignment.client
    bench.register("here")
    bench.now = 7.0
    assert bench.coordinator.status().waits == [
        f"client {held} waits for away, heard of 7 s ago: its lease ends in 3 s",
        f"clients {', '.join(str(client) for client in range(4) if client != held)} wait for a worker to be free",
    ]
    again = bench.restart().coordinator.status().waits
    assert again[0] == f"client {held} waits for away, not heard of since the coordinator began: its lease ends in 10 s"
    assert again[1].endswith(" wait for a worker: none that may do it is there")


def test_a_worker_that_leaves_is_told_at_once_and_its_clients_are_named(
    drive: Drive, caplog: pytest.LogCaptureFixture
) -> None:
    bench = drive(EVERYONE)
    here, away = bench.register("here", clients={0, 1, 2}), bench.register("away", clients={2, 3})
    for bench.now in (6.0, 12.0):
        bench.coordinator.heartbeat(here, [])
        bench.coordinator.heartbeat(away, [])
        bench.coordinator.advance()
    bench.coordinator.leave(away, "away: was\nstopped", told_to_stop=True)
    bench.coordinator.advance()
    lines = told(caplog)
    assert lines[0] == "away has left: was?stopped"
    assert lines[1].startswith("client 3 waits for away, which has left; the round ends in 88 s")
    assert len(lines) == 2
    assert "client 3 waits for away, which has left" in bench.coordinator.status().waits
    bench.register("away", "2", clients={3})
    assert bench.coordinator.status().waits == ["clients 0, 1, 2, 3 wait for a worker to be free"]


def test_nobody_is_missed_before_a_lease_time_has_passed(drive: Drive, caplog: pytest.LogCaptureFixture) -> None:
    bench = drive(EVERYONE)
    bench.coordinator.advance()
    bench.now = 9.9
    bench.coordinator.advance()
    assert told(caplog) == []
    bench.now = 10.0
    bench.coordinator.advance()
    (line,) = told(caplog)
    assert line.startswith("clients 0, 1, 2, 3 wait for a worker: none that may do it is there; the round ends in 90 s")


def test_after_a_restart_the_worker_that_had_a_client_last_is_named(
    drive: Drive, caplog: pytest.LogCaptureFixture
) -> None:
    bench = drive(EVERYONE)
    worker = bench.register("gpu", clients={2})
    bench.take(worker)
    bench.restart()
    bench.register("other", clients={0, 1, 3})
    bench.now = 10.0
    bench.coordinator.heartbeat(bench.register("other", clients={0, 1, 3}), [])
    bench.coordinator.advance()
    expired, line = told(caplog)
    assert expired == "r1-c2-a1 of gpu: expired: gpu was silent for 10 s; client 2 waits again"
    assert line.startswith("client 2 waits for gpu, which had it last and is not there; the round ends in 90 s")


def test_each_round_says_anew_who_waits(drive: Drive, caplog: pytest.LogCaptureFixture) -> None:
    bench = drive(tiny_experiment(clients_per_round=4, round={"deadline": 30}))
    here = bench.register("here", clients={0, 1})
    bench.do_all(here)
    for bench.now in (9.0, 18.0, 27.0):
        bench.coordinator.heartbeat(here, [])
        bench.coordinator.advance()
    (first,) = told(caplog)
    assert first.startswith("clients 2, 3 wait for a worker: none that may do it is there")
    bench.now = 30.0
    bench.coordinator.heartbeat(here, [])
    bench.commit()
    bench.coordinator.advance()
    (second,) = told(caplog)
    assert second.startswith("clients 2, 3 wait for a worker")


def test_long_lists_have_an_end(drive: Drive, caplog: pytest.LogCaptureFixture) -> None:
    bench = drive(tiny_experiment(clients=150, clients_per_round=150, round={"lease": 10}))
    for client in range(130):
        bench.take(bench.register(f"w{client}", clients={client}))
    bench.coordinator.advance()
    status = bench.coordinator.status()
    assert len(status.in_flight) == 130
    assert status.waits[99:101] == ["client 99 waits for w99, heard of 0 s ago: its lease ends in 10 s", "and 30 more"]
    assert status.waits[-1].endswith("136, 137, 138, 139 and 10 more wait for a worker: none that may do it is there")
    assert (len(status.heard), status.heard[-1]) == (101, "and 30 more")
    for bench.now in (25.0, 50.0):
        bench.coordinator.advance()
    lines = told(caplog)
    assert lines[9:11] == ["w9 is lost: not heard of for 25 s", "120 more workers are lost"]
    assert lines[-1] == "clients wait for 121 more workers"
    assert len(lines) == 22


def test_of_a_directory_what_is_on_disk_is_told_and_where_the_rest_is(drive: Drive) -> None:
    bench = drive(EVERYONE)
    first, second = bench.register("first"), bench.register("second")
    held = bench.take(first).assignment.client
    failed = bench.take(second)
    bench.coordinator.release(second, failed.assignment.assignment_id, "TaskError: no such file")
    status = status_of(bench.run)
    assert status.in_flight == [f"client {held} on first"]
    leased_at = bench.run.database.select("SELECT leased_at FROM assignments WHERE client = ?", held).fetchone()[0]
    others = ", ".join(str(client) for client in range(4) if client not in (held, failed.assignment.client))
    assert status.waits == [
        f"client {held} waits for first, which got it at {leased_at}",
        f"client {failed.assignment.client} waits for a worker, after TaskError: no such file",
        f"clients {others} wait for a worker",
    ]
    assert status.goes_on.startswith("the round was opened at 2")
    assert status.goes_on.endswith("knows its coordinator: lotteryfl status HOST:PORT")
    assert status.heard == []
    bench.coordinator.fail("the data is gone")
    status = status_of(bench.run)
    assert (status.waits, status.goes_on) == ([], "")


def test_every_assignment_is_a_line_in_a_log_of_everything(drive: Drive, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lotteryfl.coordinator")
    bench = drive(tiny_experiment(round={"max_attempts": 2}))
    worker, other = bench.register("w"), bench.register("other")

    def given() -> str:
        work = bench.take(worker)
        assert of_assignments(caplog) == [f"{work.assignment.assignment_id}: given to w"]
        return work.assignment.assignment_id

    answer = bench.do(bench.take(worker))
    answer.result.metrics.seconds = 12.34
    id_ = answer.result.assignment_id
    bench.coordinator.count_bytes(id_, down=2_000_000, up=1500)
    of_assignments(caplog)
    bench.submit(worker, answer)
    assert of_assignments(caplog) == [f"{id_}: returned by w: 12.3 s of work, 2.0 MB down, 1.5 kB up"]

    bench.coordinator.release(worker, (id_ := given()), "no such\nfile")
    client = id_.split("-")[1][1:]
    assert of_assignments(caplog) == [f"{id_} of w: handed back: no such?file; client {client} waits again"]

    bad = bench.do(bench.take(worker))
    of_assignments(caplog)
    bad.entries.popitem()
    bench.submit(worker, bad)
    (line,) = of_assignments(caplog)
    assert re.fullmatch(rf"{id_[:-1]}2 of w: refused: '[^']+': .*; client {client} sits the round out", line)

    id_ = given()
    client = id_.split("-")[1][1:]
    bench.now = 10.0
    bench.coordinator.heartbeat(other, [])
    bench.coordinator.advance()
    line = told(caplog)[0]
    assert line == (f"{id_} of w: expired: w was silent for 10 s; client {client} waits again")


def test_without_verbose_no_assignment_is_logged(drive: Drive, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "lotteryfl.coordinator")
    bench = drive()
    bench.do_all(bench.register())
    assert of_assignments(caplog) == []
