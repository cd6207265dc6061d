"""Workers as processes of their own: pinned, killed, stopped and replaced; the bits stay the same."""

import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.summary import summarise
from tests.support.handworker import HandWorker
from tests.support.processes import Gate, Process
from tests.support.runs import GATED_TASK, Coordinate, Expect, Start, Write, assert_same_bits
from tests.support.waiting import PROMPT

LISTENING = r"^listening at (127\.0\.0\.1:\d+)$"


@pytest.fixture
def work(start: Start, gate: Gate) -> Start:
    """Start a worker that stops at the gate."""

    def work_(address: str, name: str, *options: str) -> Process:
        arguments = (f"--coordinator={address}", f"--name={name}", f"--task={GATED_TASK}", *options)
        return start("work", *arguments, env=gate.env)

    return work_


def attempts(folder: Path) -> dict[tuple[int, int], tuple[int, str]]:
    """Return (round, client) → number of leases, name of the worker that did it."""
    with closing(sqlite3.connect(f"file:{folder / 'run.db'}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT round, client, attempt, worker FROM assignments")
        return {(round_, k): (attempt, worker.partition(":")[0]) for round_, k, attempt, worker in rows}


def test_pinned_workers_get_their_own_clients_only(
    tmp_path: Path, start: Start, work: Start, write: Write, gate: Gate, expect: Expect
) -> None:
    """While it runs, both kinds of `status` say who does what."""
    path = write(round={"leases": 1})
    serve = start("--verbose", "serve", path, "--listen", "127.0.0.1:0", "--run-dir", "run")
    address = serve.said(LISTENING)[1]
    low = work(address, "low", "--clients=0-1")
    high = work(address, "high", "--clients=2,3")
    held = {gate.arrival().client, gate.arrival().client}
    assert len(held & {0, 1}) == len(held & {2, 3}) == 1
    for where in (address, tmp_path / "run"):
        status = start("status", where)
        assert status.exit_code() == 0, status.stderr
        assert status.stdout.startswith("lotteryfl, 4 clients: running\nrounds: 0 of 3 committed\n")
        assert "open round: 0 of 3 results, 2 in flight" in status.stdout
        for client in held:
            worker = "low" if client < 2 else "high"
            assert f"client {client} on {worker}" in status.stdout
            since = r"heard of \d+ s ago: its lease ends in \d+ s" if where == address else r"which got it at 2\S+Z"
            assert re.search(rf"^  client {client} waits for {worker}, {since}$", status.stdout, re.MULTILINE)
            serve.said(rf"INFO r1-c{client}-a1: given to {worker}$")
        known = "the round ends in " if where == address else "knows its coordinator: lotteryfl status HOST:PORT"
        assert known in status.stdout
        assert ("workers: 2 alive\n  " in status.stdout) == (where == address)
    gate.open()
    for process in (serve, low, high):
        assert process.exit_code() == 0, process.stderr
    for (_, client), (_, worker) in attempts(tmp_path / "run").items():
        assert worker == ("low" if client < 2 else "high")
    serve.said(r"INFO r1-c\d-a1: returned by low: \d+\.\d s of work, \d.* down, \d.* up$")
    assert_same_bits(tmp_path / "run", expect(path))


def test_a_killed_workers_assignment_goes_to_one_that_waits(
    tmp_path: Path, start: Start, work: Start, write: Write, gate: Gate, expect: Expect
) -> None:
    path = write(clients=2, clients_per_round=2, round={"lease": 6.0, "leases": 1})
    serve = start("serve", path, "--listen", "127.0.0.1:0", "--run-dir", "run")
    address = serve.said(LISTENING)[1]
    victim = work(address, "victim")
    held = gate.arrival()
    other = work(address, "other")
    gate.arrival().let_go()
    other.said("r1-c1-a1: accepted")
    victim.send(signal.SIGKILL)
    again = gate.arrival(PROMPT)
    serve.said(r"WARNING victim is lost: not heard of for \d+ s$")
    serve.said(
        rf"WARNING r1-c{held.client}-a1 of victim: expired: victim was silent for 6 s; client {held.client} waits"
    )
    assert again.client == held.client
    assert again.pid != held.pid
    gate.open()
    for process in (serve, other):
        assert process.exit_code() == 0, process.stderr
    assert attempts(tmp_path / "run")[1, held.client] == (2, "other")
    assert_same_bits(tmp_path / "run", expect(path))


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_a_stopped_worker_hands_its_assignment_back_at_once(
    number: signal.Signals, tmp_path: Path, start: Start, work: Start, write: Write, gate: Gate, expect: Expect
) -> None:
    """Then one comes back under the name of one that is frozen, and replaces it."""
    path = write(clients=1, clients_per_round=1)
    serve = start("serve", path, "--listen", "127.0.0.1:0", "--run-dir", "run")
    address = serve.said(LISTENING)[1]
    stopped, other = work(address, "a"), work(address, "b")
    held = gate.arrival()
    first, second = (stopped, other) if held.pid == stopped.pid else (other, stopped)
    second.said("registered")
    first.send(number)
    assert first.exit_code() == 130
    assert "Traceback" not in first.stderr
    assert gate.arrival(PROMPT).pid == second.pid

    second.send(signal.SIGSTOP)
    successor = work(address, "b" if second is other else "a")
    assert gate.arrival().pid == successor.pid
    second.send(signal.SIGCONT)
    gate.open()
    assert second.exit_code() == 1
    assert "was started after this one: every worker needs its own --name" in second.error_line
    for process in (serve, successor):
        assert process.exit_code() == 0, process.stderr
    assert attempts(tmp_path / "run")[1, 0][0] == 3
    assert_same_bits(tmp_path / "run", expect(path))


@pytest.mark.slow
def test_a_worker_that_was_frozen_for_too_long_drops_its_work_and_goes_on(
    work: Start, write: Write, gate: Gate, coordinate: Coordinate, expect: Expect
) -> None:
    path = write(clients=1, clients_per_round=1, round={"lease": 6.0})
    server = coordinate(path)
    worker = work(server.address, "w")
    held = gate.arrival()
    worker.send(signal.SIGSTOP)
    hand = HandWorker(server)
    done = hand.work()
    assert done.result.assignment_id == "r1-c0-a2"
    assert hand.submit(done.messages()).verdict == pb.SubmitReply.ACCEPTED
    worker.send(signal.SIGCONT)
    held.let_go()
    worker.said("r1-c0-a1: (lease lost|stale)")
    gate.open()
    assert worker.exit_code() == 0, worker.stderr
    assert server.ended() == ""
    assert summarise(server.run)["tickets_sha256"] == expect(path)["tickets_sha256"]


def test_a_worker_whose_weights_cannot_travel_hands_its_work_back_and_goes_on(
    work: Start, write: Write, gate: Gate, coordinate: Coordinate
) -> None:
    gate.open()
    server = coordinate(write(clients=1, clients_per_round=1, wire_dtype="float16", training={"lr": 1e30}))
    worker = work(server.address, "w")
    reason = r"\w+/0\.weight: value \S+ at flat index \d+: float16 carries finite values up to ±65504"
    for attempt in (1, 2, 3):
        worker.said(f"r1-c0-a{attempt}: handed back: {reason}")
    assert worker.exit_code() == 1
    assert re.search(f"the run failed: round 1: .* clients were given up; {reason}", worker.error_line)


def test_a_worker_that_waits_for_work_stops_at_once(work: Start, write: Write, coordinate: Coordinate) -> None:
    server = coordinate(write(clients=1, clients_per_round=1))
    HandWorker(server).poll()
    worker = work(server.address, "w")
    worker.said("registered")
    worker.send(signal.SIGTERM)
    assert worker.exit_code(PROMPT) == 130
    assert "Traceback" not in worker.stderr
