"""Trackers are fed while a run goes on: no point twice, none missing, whoever is killed, and nobody waits."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import lotteryfl
from tests.support.processes import Gate, free_port
from tests.support.runs import GATED_TASK, Start, Write, read_summary
from tests.support.trackerpoints import expected, find_mlflow, of_mlflow, of_tensorboard, of_trackio
from tests.support.waiting import DEADLINE, until


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[Callable[[int], None]]:
    """Start MLflow's own tracking server at a port, over a database file."""
    pytest.importorskip("mlflow")
    with ExitStack() as stack:

        def begin(port: int) -> None:
            database = f"sqlite:///{tmp_path / 'mlflow.db'}"
            command = [sys.executable, "-m", "mlflow", "server", f"--port={port}", f"--backend-store-uri={database}"]
            with (tmp_path / "mlflow.log").open("wb") as log:
                server = subprocess.Popen([*command, "--workers=1"], cwd=tmp_path, stdout=log, stderr=log)
            stack.callback(server.wait)
            stack.callback(server.terminate)

        yield begin


def test_points_come_while_the_run_goes_on_and_once_whoever_is_killed(
    tmp_path: Path, start: Start, write: Write, gate: Gate
) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("trackio")
    logs, trackio, run = tmp_path / "logs", tmp_path / "trackio", tmp_path / "run"
    path, address = write(), f"127.0.0.1:{free_port()}"
    env = {
        "TRACKIO_DIR": str(trackio),
        "LOTTERYFL_FAULTS": "tracker-sent:die,tracker-connected:die@2",
        "LOTTERYFL_FAULTS_LOG": str(tmp_path / "faults"),
    }
    trackers = (f"--track=tensorboard={logs}", "--track=trackio=watched")
    command = ("serve", path, f"--listen={address}", "--run-dir", "run", "--task", GATED_TASK, *trackers)
    server = start(*command, env=env)
    server.said("^listening at ")
    worker = start("work", f"--coordinator={address}", f"--task={GATED_TASK}", env=gate.env)
    with lotteryfl.open_run(run) as view:
        rounds = view.follow(interval=0.05, timeout=DEADLINE)
        for _ in range(3):
            gate.arrival().let_go()
        gate.arrival()  # of the client that round 1 is without: it is held, and the run goes no further than it needs
        assert next(rounds).round == 1
        until(lambda: (logs / "run").exists() and ("density", 1) in of_tensorboard(logs / "run"))
        until(lambda: ("density", 1) in of_trackio("watched", "run", trackio))
        server.said("^trackers: their process was ended by signal 9, and is started again")
        assert view.status().state == view.status().RUNNING
        server.send(signal.SIGKILL)
        server.exit_code()
        server = start(*command, env=env)
        server.said("^listening at ")
        gate.open()
        assert [each.round for each in rounds] == [2, 3, 4]
        assert list(view.rounds()["round"]) == [1, 2, 3, 4], "the view sees what it has followed"
    for process in (server, worker):
        assert process.exit_code() == 0, process.stderr
    assert len((tmp_path / "faults").read_text().splitlines()) == 2, "both kills happened"
    assert of_tensorboard(logs / "run") == of_trackio("watched", "run", trackio) == expected(run)


def test_a_tracker_that_is_down_holds_up_no_round_and_the_end_no_longer_than_allowed(
    tmp_path: Path, start: Start, write: Write, gate: Gate
) -> None:
    pytest.importorskip("trackio")
    nobody = f"http://user:secret@127.0.0.1:{free_port()}/"
    env = {"TRACKIO_SERVER_URL": nobody, "TRACKIO_WRITE_TOKEN": "secret", "TRACKIO_DIR": str(tmp_path / "trackio")}
    process = start(
        *("simulate", write(), "--run-dir", "run", "--task", GATED_TASK, "--track=trackio=watched", "--track-wait=1"),
        env={**env, **gate.env},
    )
    gate.arrival()
    process.said("^trackio watched: .* the run goes on, and this is tried again$")
    gate.open()
    process.said("^summary: ")
    begin = time.monotonic()
    assert process.exit_code() == 0, process.stderr
    assert time.monotonic() - begin < 45, "15 s at most, and what ending takes on a busy machine"
    assert read_summary(tmp_path / "run")["rounds"] == 3
    assert process.stderr.count("trackio watched: ") == 2, "when it is down and in the end, not at each try"
    assert "what it lacks gets there with: lotteryfl track run --to" in process.stderr
    assert "secret" not in process.stderr + process.stdout


def test_mlflow_that_comes_late_gets_every_round_once(
    tmp_path: Path, start: Start, write: Write, gate: Gate, mlflow_server: Callable[[int], None]
) -> None:
    """Refused at first, then there, then fed by a process that dies after it has sent."""
    port, run = free_port(), tmp_path / "run"
    uri = f"http://127.0.0.1:{port}"
    env = {"LOTTERYFL_FAULTS": "tracker-sent:die@2", "LOTTERYFL_FAULTS_LOG": str(tmp_path / "faults")}
    process = start(
        *("simulate", write(), "--run-dir", "run", "--task", GATED_TASK, f"--track=mlflow={uri}"),
        env={**env, **gate.env},
    )
    gate.arrival()
    process.said("^mlflow http.*: .* the run goes on, and this is tried again$")
    mlflow_server(port)
    process.said("^mlflow http.*: takes what it is sent again$")
    gate.open()
    assert process.exit_code() == 0, process.stderr
    assert "their process was ended by signal 9" in process.stderr
    assert of_mlflow(uri, "run") == expected(run)
    again = start("track", "run", f"--to=mlflow={uri}")
    assert again.exit_code() == 0, again.stderr
    assert of_mlflow(uri, "run") == expected(run)
    found = find_mlflow(uri, "run")
    assert found.info.status == "FINISHED"
    assert found.data.params["strategy/name"] == "lotteryfl"
    assert found.data.tags["lotteryfl.model_sha256"] == read_summary(run)["model_sha256"]
    assert found.data.metrics["summary/bytes/up"] == read_summary(run)["bytes"]["up"]
