"""`lotteryfl watch`: a run on a terminal as it goes on, over a coordinator's death; in lines where there is none."""

import re
import signal
from pathlib import Path

import pytest

from lotteryfl.common.experiment.experiment import load
from lotteryfl.server.rounds.setup import create_run
from lotteryfl.server.rpc.endpoint import Endpoint
from lotteryfl.server.store.rundir import RunDirectory
from tests.integration.seeing.conftest import OnTerminal
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.damage import edit
from tests.support.handworker import HandWorker
from tests.support.looking import status
from tests.support.processes import Gate, free_port
from tests.support.runs import Coordinate, Start, Write

CLEAN = "\x1b[?25h"
"""Shows the cursor again."""


def test_a_run_is_followed_from_afar_to_its_end(coordinate: Coordinate, write: Write, on_terminal: OnTerminal) -> None:
    server = coordinate(write())
    terminal = on_terminal("watch", server.address)
    terminal.shows(r"lotteryfl, 4 clients: running")
    worker = HandWorker(server, "[red]gpu-7[/red]")
    terminal.shows(r"^\[red\]gpu-7\[/red\] +\d s ago +cpu +waits for work")
    terminal.shows(r"^\d\d:\d\d:\d\d joined \[red\]gpu-7\[/red\]: on cpu, holds every client$")
    parts = worker.poll()
    client = parts[0].assignment.client
    terminal.shows(rf"^\[red\]gpu-7\[/red\] +\d s ago +cpu +client {client}")
    worker.submit(worker.do(parts).messages())
    terminal.shows(r"^1 of 3 results, 0 in flight")
    for _ in worker.finish():
        pass
    terminal.shows(r"lotteryfl, 4 clients: finished")
    assert terminal.exit_code() == 0
    assert server.ended() == ""
    last = terminal.text.rpartition("lotteryfl, 4 clients: finished")[2]
    assert re.search(r"^accuracy personalised +0\.\d{3} [▁▂▃▄▅▆▇█]{3}$", last, re.MULTILINE), last
    assert re.search(r"^density +0\.\d{3} █[▁▂▃▄▅▆▇█]▁$", last, re.MULTILINE), last
    assert terminal.raw.endswith(CLEAN) or CLEAN in terminal.raw[-20:]
    assert "Traceback" not in terminal.text


def test_it_outlives_a_coordinator_that_ends_and_is_started_again(
    tmp_path: Path, write: Write, on_terminal: OnTerminal
) -> None:
    experiment, endpoint = load(write()), Endpoint(f"127.0.0.1:{free_port()}")
    with create_run(tmp_path / "run", experiment, (experiment.task.name,)) as run, CoordinatorThread(run, endpoint):
        terminal = on_terminal("watch", endpoint.address, columns=70, rows=20)
        beside = on_terminal("watch", tmp_path / "run")
        terminal.shows("lotteryfl, 4 clients: running")
    seen = terminal.shows(r"^! coordinator .*: cannot be reached.*")
    beside.shows(r"^\d\d:\d\d:\d\d stopped: the coordinator has ended, in round 1$")
    beside.shows("lotteryfl, 4 clients: stopped")
    with RunDirectory(tmp_path / "run") as run, CoordinatorThread(run, endpoint) as server:
        worker = HandWorker(server, "w")
        terminal.shows(r"^w +\d s ago +waits for work", since=seen)
        for _ in worker.finish():
            pass
        assert server.ended() == ""
    for screen in (terminal, beside):
        screen.shows("lotteryfl, 4 clients: finished")
        assert screen.exit_code() == 0
        last = screen.text.rpartition("lotteryfl, 4 clients: finished")[2]
        kinds = re.findall(r"^\d\d:\d\d:\d\d (\w+)", last, re.MULTILINE)
        assert kinds == ["started", "stopped", "started", "joined", "finished"]
    assert max(map(len, terminal.text.splitlines())) <= 70


def test_ctrl_c_leaves_the_terminal_as_it_was(finished_run: Path, on_terminal: OnTerminal) -> None:
    edit(finished_run, "UPDATE run SET value = 'running' WHERE key = 'state'")
    terminal = on_terminal("watch", finished_run)
    terminal.shows("lotteryfl, 4 clients: stopped")
    terminal.press_ctrl_c()
    assert terminal.exit_code() == 130
    assert CLEAN in terminal.raw[-30:]
    assert "Traceback" not in terminal.text


@pytest.mark.slow
def test_it_outlives_a_coordinator_that_is_killed(
    tmp_path: Path, start: Start, write: Write, gate: Gate, on_terminal: OnTerminal
) -> None:
    path, address = write(), f"127.0.0.1:{free_port()}"
    serve = start("serve", path, "--listen", address, "--run-dir", "run", "--task", write_task(path))
    serve.said("listening at")
    terminal = on_terminal("watch", address, columns=70, rows=20)
    beside = on_terminal("watch", "run")
    terminal.shows("lotteryfl, 4 clients: running")
    beside.shows(r"^\d\d:\d\d:\d\d started: the coordinator has begun, with 0 rounds committed")
    serve.send(signal.SIGKILL)
    serve.exit_code()
    seen = terminal.shows(r"^! coordinator .*: cannot be reached.*")
    again = start("serve", "run", "--listen", address, "--task", write_task(path))
    worker = start("work", "--coordinator", address, "--task", write_task(path), "--name", "w", env=gate.env)
    gate.arrival()
    terminal.shows(r"^w +\d s ago +client \d", since=seen)
    assert max(map(len, terminal.text[seen:].splitlines())) <= 70
    terminal.press_ctrl_c()
    assert terminal.exit_code() == 130
    assert CLEAN in terminal.raw[-30:]
    assert "Traceback" not in terminal.text
    gate.open()
    beside.shows(r"lotteryfl, 4 clients: finished")
    assert beside.exit_code() == 0
    last = beside.text.rpartition("lotteryfl, 4 clients: finished")[2]
    assert re.search(r"^\d\d:\d\d:\d\d finished: all 3 rounds are committed", last, re.MULTILINE), last
    assert last.count(" started: ") == 2
    assert (again.exit_code(), worker.exit_code()) == (0, 0)


def write_task(path: Path) -> str:
    """Return the task that an experiment file names."""
    (name,) = re.findall(r'name = "(.+\.py)"', path.read_text())
    return str(name)


def test_without_a_terminal_it_is_a_line_a_round(coordinate: Coordinate, write: Write, start: Start) -> None:
    server = coordinate(write())
    replies = HandWorker(server).finish()
    while status(server).round < 1:
        next(replies)
    watch = start("watch", server.address)
    watch.said("^round 1/3: ")
    for _ in replies:
        pass
    assert watch.exit_code() == 0, watch.stderr
    assert "\x1b" not in watch.stdout
    lines = watch.stdout.splitlines()
    starts = [line.partition(":")[0] for line in lines]
    assert starts == ["round 1/3", "round 2/3", "round 3/3", "every client, once more", "the run has finished"]
    assert watch.stderr == ""


def test_nobody_to_watch_is_one_line(start: Start) -> None:
    watch = start("watch", f"127.0.0.1:{free_port()}")
    assert watch.exit_code() == 1
    assert watch.error_line.startswith("coordinator 127.0.0.1:")
    nowhere = start("watch", "nowhere")
    assert nowhere.exit_code() == 1
    assert nowhere.error_line == "nowhere: neither a run directory nor HOST:PORT"
