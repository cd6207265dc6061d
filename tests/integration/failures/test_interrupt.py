"""Ctrl-C ends a run cleanly and says how to go on; going on gives the same bits; a finished run shows its table."""

import os
import shlex
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.processes import Gate, Process, free_port
from tests.support.runs import GATED_TASK, Expect, Start, Write, assert_same_bits


def command_to_go_on(process: Process) -> list[str]:
    """Return the arguments of the command that an interrupted process names."""
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("stopped; ")]
    said, _, command = line.partition("Go on with: ")
    assert said == "stopped; what was counted is kept. "
    program, *arguments = shlex.split(command)
    assert program == "lotteryfl"
    return arguments


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_a_run_is_interrupted_and_goes_on(
    number: signal.Signals, tmp_path: Path, start: Start, write: Write, gate: Gate, expect: Expect
) -> None:
    """By Ctrl-C, or by a terminal that goes away: its workers, which have none, end with it."""
    path = write()
    env = gate.env | {"FORKS": str(tmp_path / "forks")}
    run = start("run", path, "--workers", 2, "--run-dir", "run", env=env)
    gate.arrival().let_go()
    held = [gate.arrival(), gate.arrival()]
    run.send(number)
    assert run.exit_code() == 130
    assert "Traceback" not in run.stderr
    assert not any(is_running(visit.pid) for visit in held)
    logs = "".join(log.read_text() for log in (tmp_path / "run" / "logs").iterdir())
    assert "Traceback" not in logs
    with closing(sqlite3.connect(tmp_path / "run" / "run.db")) as database:
        rows = database.execute("SELECT client, state, reason FROM assignments WHERE state != 'done'").fetchall()
        assert {state for _, state, _ in rows} == {"waiting"}, "the workers did not hand their work back"
        assert all("was stopped" in reason for *_, reason in rows)  # the first one's result may have been on its way
        assert {visit.client for visit in held} <= {client for client, *_ in rows}
    gate.open()

    again = start(*command_to_go_on(run), env=env)
    assert again.exit_code() == 0, again.stderr
    assert_same_bits(tmp_path / "run", expect(path))
    assert (tmp_path / "forks").read_bytes() == b"", "a process with gRPC in it has forked"

    finished = start("run", "run", "--task", GATED_TASK)
    assert finished.exit_code() == 0, finished.stderr
    assert finished.stderr == ""
    assert finished.stdout == again.stdout
    assert [line.split()[0] for line in finished.stdout.splitlines()[3:8]] == ["0", "1", "2", "3", "mean"]


def test_a_simulation_is_interrupted_and_goes_on(
    tmp_path: Path, start: Start, write: Write, gate: Gate, expect: Expect
) -> None:
    path = write()
    simulation = start("simulate", path, "--run-dir", "run", env=gate.env)
    for _ in range(4):
        gate.arrival().let_go()
    gate.arrival()
    simulation.send(signal.SIGINT)
    assert simulation.exit_code() == 130
    assert "Traceback" not in simulation.stderr
    gate.open()
    again = start(*command_to_go_on(simulation))
    assert again.exit_code() == 0, again.stderr
    assert "round 1/3" not in again.stderr
    assert_same_bits(tmp_path / "run", expect(path))


@pytest.mark.slow
def test_a_coordinator_is_stopped_and_killed_and_goes_on(
    tmp_path: Path, start: Start, write: Write, gate: Gate, expect: Expect
) -> None:
    """Its worker waits for it to come back, each time, goes on with what it has, and ends well."""
    path = write()
    command = ("serve", path, "--listen", f"127.0.0.1:{free_port()}", "--run-dir", "run")
    serve = start(*command)
    address = serve.said(r"listening at (\S+)")[1]
    worker = start("work", "--coordinator", address, "--name", "w", "--task", GATED_TASK, env=gate.env)
    gate.arrival().let_go()
    held = gate.arrival()
    serve.send(signal.SIGTERM)
    assert serve.exit_code(15) == 130
    assert "Traceback" not in serve.stderr
    second = start(*command_to_go_on(serve))
    held.let_go()
    worker.said("trying again for 60 s")
    gate.arrival().let_go()
    second.said("round 1/3: 3 clients")
    gate.arrival()
    second.send(signal.SIGKILL)
    second.exit_code()
    third = start(*command)
    third.said("listening at")
    gate.open()
    for process in (third, worker):
        assert process.exit_code() == 0, process.stderr
    assert third.stderr.splitlines()[1].startswith("round 2/3: 3 clients")
    assert_same_bits(tmp_path / "run", expect(path))
    with closing(sqlite3.connect(tmp_path / "run" / "run.db")) as database:
        (most,) = database.execute("SELECT max(attempt) FROM assignments").fetchone()
        assert most == 1, "a lease of 600 s did not outlive a restart"
