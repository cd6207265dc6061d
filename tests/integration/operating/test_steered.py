"""Real processes, steered: a run that was paused, killed, drained and stopped comes to the bits of one left alone."""

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.credentials import Credentials
from tests.support.handworker import HandWorker
from tests.support.looking import fails
from tests.support.processes import Gate, Process, free_port
from tests.support.runs import GATED_TASK, Coordinate, Expect, Start, Write, assert_same_bits
from tests.support.waiting import until


class Bed:
    """A coordinator over one directory, a worker, and an operator's commands."""

    def __init__(self, folder: Path, start: Start, path: Path, gate: Gate) -> None:
        self.run, self._start, self._gate = folder / "run", start, gate
        self.address = f"127.0.0.1:{free_port()}"
        self._command = ("serve", path, "--run-dir", "run", "--listen", self.address)
        self.serve()

    def serve(self) -> Process:
        self.server = self._start(*self._command)
        self.server.said("^listening at")
        return self.server

    def work(self) -> Process:
        options = (f"--coordinator={self.address}", f"--task={GATED_TASK}", "--name=w")
        return self._start("work", *options, env=self._gate.env)

    def told(self, verb: str, *options: str) -> str:
        """Give a command and return what it says."""
        said = self._start(verb, self.address, *options)
        assert said.exit_code() == 0, said.stderr
        return said.stdout.strip()

    def states(self, round_: int = 1) -> list[str]:
        with closing(sqlite3.connect(f"file:{self.run / 'run.db'}?mode=ro", uri=True)) as database:
            query = "SELECT state FROM assignments WHERE round = ? ORDER BY state"
            return [state for (state,) in database.execute(query, (round_,))]


@pytest.fixture
def bed(tmp_path: Path, start: Start, write: Write, gate: Gate) -> Bed:
    return Bed(tmp_path, start, write(round={"leases": 1}), gate)


def test_a_run_that_is_paused_in_a_round_and_killed_meanwhile_has_the_bits_of_one_left_alone(
    bed: Bed, tmp_path: Path, gate: Gate, expect: Expect, start: Start
) -> None:
    worker = bed.work()
    visit = gate.arrival()
    paused = "paused by somebody on this machine: for the disk"
    assert bed.told("pause", "--reason", "for the disk") == f"the run is {paused}"
    visit.let_go()
    until(lambda: bed.states() == ["done", "waiting", "waiting"])  # counted, and nothing else given out
    bed.server.send(signal.SIGKILL)
    bed.server.exit_code()
    bed.serve().said(f"^{paused}$")
    assert paused in start("status", bed.address).said("running: .*")[0]
    assert bed.states() == ["done", "waiting", "waiting"]
    assert bed.told("resume") == "the run goes on"
    gate.open()
    assert bed.server.exit_code() == 0, bed.server.stderr
    assert worker.exit_code() == 0, worker.stderr
    assert_same_bits(tmp_path / "run", expect(tmp_path / "tiny.toml"))


def test_the_workers_of_a_drained_coordinator_leave(
    coordinate: Coordinate, write: Write, gate: Gate, start: Start
) -> None:
    server = coordinate(write())
    worker = start("work", "--coordinator", server.address, "--task", GATED_TASK, "--name", "w", env=gate.env)
    gate.arrival()
    assert start("drain", server.address).exit_code() == 0
    gate.open()
    assert server.ended() == ""
    assert worker.exit_code() == 0
    worker.said("w: leaves: the open round is the last here: drained by somebody on this machine")
    states = [{row.state for row in server.run.database.assignments(round_)} for round_ in (1, 2)]
    assert (server.run.state, states) == ("running", [{"done"}, {"waiting"}])


def test_a_worker_that_was_put_aside_is_readmitted(coordinate: Coordinate, write: Write, start: Start) -> None:
    server = coordinate(write(checks={"max_refusals": 1}))
    worker = HandWorker(server, "bad/1")
    done = worker.work()
    done.result.examples = 0
    assert worker.submit(done.messages()).verdict == pb.SubmitReply.REFUSED
    error = fails(lambda: HandWorker(server, "bad/2"))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    readmitted = start("readmit", server.address, "bad")
    assert readmitted.exit_code() == 0, readmitted.stderr
    assert readmitted.stdout == "worker bad gets work again, once it is started again\n"
    assert HandWorker(server, "bad/2").poll()[0].HasField("assignment")
    again = start("readmit", server.address, "bad")
    assert again.exit_code() == 1
    assert again.error_line == f"coordinator {server.address}: worker 'bad' is not put aside; put aside: nobody"


@pytest.mark.slow
def test_a_run_is_drained_and_its_workers_leave_and_it_goes_on_from_there(
    bed: Bed, tmp_path: Path, gate: Gate, expect: Expect
) -> None:
    worker = bed.work()
    visit = gate.arrival()
    assert bed.told("drain") == "the coordinator ends when the open round is committed"
    bed.server.said("^the open round is the last here: drained by somebody on this machine$")
    gate.open()
    visit.let_go()
    assert bed.server.exit_code() == 130
    assert "stopped; what was counted is kept. Go on with: " in bed.server.stderr
    assert worker.exit_code() == 0
    worker.said("w: leaves: the open round is the last here: drained by")
    assert (bed.states(1), bed.states(2)) == (["done"] * 3, ["waiting"] * 3)
    bed.serve()
    worker = bed.work()
    assert bed.server.exit_code() == 0, bed.server.stderr
    assert worker.exit_code() == 0
    assert_same_bits(tmp_path / "run", expect(tmp_path / "tiny.toml"))


@pytest.mark.slow
def test_a_run_is_stopped_as_by_a_signal_and_a_paused_one_is_resumed_without_its_coordinator(
    bed: Bed, tmp_path: Path, gate: Gate, expect: Expect, start: Start
) -> None:
    worker = bed.work()
    gate.arrival()
    bed.told("pause")
    assert bed.told("stop") == "the coordinator ends"
    assert bed.server.exit_code() == 130
    assert "stopped; what was counted is kept. Go on with: " in bed.server.stderr
    gate.open()
    worker.end()
    refused = start("run", "run", "--task", GATED_TASK)
    assert refused.exit_code() == 1
    assert refused.error_line == "run: is paused by somebody on this machine; `lotteryfl resume run` lets it go on"
    resumed = start("resume", "run")
    assert (resumed.exit_code(), resumed.stdout) == (0, "the run goes on\n")
    again = start("run", "run", "--task", GATED_TASK)
    assert again.exit_code() == 0, again.stderr
    assert_same_bits(tmp_path / "run", expect(tmp_path / "tiny.toml"))


@pytest.mark.slow
def test_an_operator_steers_by_certificate_or_token_and_others_are_told_who_may(
    tmp_path: Path, start: Start, write: Write
) -> None:
    credentials, address = Credentials(tmp_path), f"127.0.0.1:{free_port()}"
    server = start("serve", write(), "--listen", address, "--run-dir", "run", *credentials.options("coordinator"))
    server.said("^listening at")
    refused = start("drain", address, *credentials.options("alice"))
    assert refused.exit_code() == 1
    assert refused.error_line == f"coordinator {address}: alice is a worker, and this call is for operators"
    stopped = start("stop", address, *credentials.options("olga"))
    assert (stopped.exit_code(), server.exit_code()) == (0, 130)
