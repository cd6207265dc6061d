"""A disk that is full: the coordinator stops with a clear word, and nothing that it has accepted is lost."""

import resource
from pathlib import Path

import pytest

from tests.support.processes import Gate, free_port
from tests.support.runs import GATED_TASK, Expect, Start, Write, assert_same_bits


@pytest.mark.parametrize("results", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_coordinator_stops_and_the_run_goes_on_when_there_is_room(
    results: int, tmp_path: Path, start: Start, write: Write, gate: Gate, expect: Expect
) -> None:
    path, address = write(), f"127.0.0.1:{free_port()}"
    serve = ("serve", path, "--listen", address, "--run-dir", "run")
    # Coverage would write its data to the full disk as well, and say in a traceback that it cannot.
    coordinator = start(*serve, env={"COVERAGE_PROCESS_CONFIG": ""})
    coordinator.said("^listening at")
    worker = start("work", "--coordinator", address, "--task", GATED_TASK, env=gate.env)
    for _ in range(results):
        gate.arrival().let_go()
    visit = gate.arrival()
    # From now on no file may grow beyond 100 bytes: the next result does not fit.
    resource.prlimit(coordinator.pid, resource.RLIMIT_FSIZE, (100, 100))
    visit.let_go()
    assert coordinator.exit_code() == 1
    assert coordinator.error_line.startswith("run: ")
    assert coordinator.error_line.endswith("nothing that was accepted is lost: see to it and start again")
    gate.open()
    again = start(*serve)
    assert again.exit_code() == 0, again.stderr
    assert worker.exit_code() == 0, worker.stderr
    assert_same_bits(tmp_path / "run", expect(path))
