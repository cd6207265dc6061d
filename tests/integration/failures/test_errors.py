"""Every mistake ends in one line that names it, and a non-zero exit: no traceback, no waiting."""

import re
from pathlib import Path

import pytest

from lotteryfl.common.experiment.experiment import load
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.setup import create_run
from lotteryfl.server.strategies.lotteryfl import LotteryFL
from tests.support.handworker import HandWorker
from tests.support.processes import Process, free_port
from tests.support.runs import GATED_TASK, Coordinate, Start, Write
from tests.support.waiting import DEADLINE, PROMPT

BAD_MODEL = """
from torch import nn
def model():
    return nn.Linear(12, 4)
def client(k, experiment):
    raise AssertionError
"""

FROZEN_BIAS = """
trained = model
def model():
    made = trained()
    made[2].bias.requires_grad = False
    return made
"""

EMPTY_CLIENTS = """
import numpy as np
from torch import nn
def model():
    return nn.Linear(5, 2)
def client(k, experiment):
    examples = (np.ones((4, 5)), np.array([0, 1, 0, 1]))
    nothing = (np.ones((0, 5)), np.zeros(0, int))
    return nothing, examples, examples
"""

NOTHING_TO_PRUNE = """
from torch import nn
def model():
    return nn.BatchNorm1d(5)
def client(k, experiment):
    raise AssertionError
"""


def error_of(process: Process, seconds: float = DEADLINE) -> str:
    assert process.exit_code(seconds) == 1
    return process.error_line


@pytest.mark.parametrize(
    ("text", "options", "error"),
    [
        ("clientz = 3", (), r"bad\.toml: unknown key clientz = 3; allowed here: seed, rounds, clients, .*"),
        ("[training]\nlr = -1", (), r"bad\.toml: training\.lr = -1: input should be greater than 0"),
        ("rounds = = 2", (), r"bad\.toml: not valid TOML: .*line 1.*"),
        ("", ("--set", "rounds"), r"--set rounds: expected KEY=VALUE, as in --set training\.lr=0\.05"),
        ("", ("--set", "strategy.name=magic"), r"strategy\.name = 'magic': must be one of lotteryfl, .*"),
        (None, (), r"bad\.toml: No such file or directory"),
    ],
)
def test_a_wrong_experiment(
    text: str | None, options: tuple[str, ...], error: str, tmp_path: Path, start: Start
) -> None:
    if text is not None:
        (tmp_path / "bad.toml").write_text(text)
    assert re.fullmatch(error, error_of(start("run", "bad.toml", *options)))


def test_no_coordinator_there(start: Start) -> None:
    address = f"127.0.0.1:{free_port()}"
    status = start("status", address)
    worker = start("work", "--coordinator", address, "--patience", 1)
    for process in (worker, status):
        error = error_of(process, PROMPT)
        assert error.startswith(f"coordinator {address}: cannot be reached: ")
        assert "Connection refused" in error


def test_a_worker_that_cannot_take_part(tmp_path: Path, start: Start, write: Write, coordinate: Coordinate) -> None:
    address = coordinate(write()).address
    (tmp_path / "gated_task.py").write_text(BAD_MODEL)
    command = ("work", "--coordinator", address)
    other_model = start(*command, "--task", "gated_task.py")
    (tmp_path / "frozen").mkdir()
    (tmp_path / "frozen" / "gated_task.py").write_text(GATED_TASK.read_text() + FROZEN_BIAS)
    frozen = start(*command, "--task", "frozen/gated_task.py")
    no_task = start(*command)
    too_many = start(*command, "--clients", "2-9", "--task", GATED_TASK)
    error = error_of(other_model)
    assert error.startswith("task gated_task: this worker's model is not the coordinator's: ")
    assert "'0." in error
    assert error_of(frozen).endswith("coordinator's: tensor '2.bias': role is frozen here, parameter there")
    assert error_of(no_task).startswith("task 'gated_task' is not installed here: name its file with --task")
    assert error_of(too_many) == f"coordinator {address}: client 9: the experiment's clients are 0 to 3"


def test_what_is_taken_already(tmp_path: Path, start: Start, write: Write, coordinate: Coordinate) -> None:
    path = write()
    server = coordinate(path, "served")
    occupied = start("serve", path, "--listen", server.address, "--run-dir", "other")
    read = start("run", path, f"--metrics={server.address}", "--run-dir", "other")
    in_use = start("run", path, "--run-dir", "served")
    not_empty = start("run", path, "--run-dir", ".")
    assert error_of(occupied).startswith(f"{server.address}: cannot listen there: the address is in use")
    assert error_of(read).startswith(f"--metrics {server.address}: cannot listen there: the address is in use")
    assert not (tmp_path / "other").exists()
    assert error_of(in_use) == "served: another process is running this run"
    assert error_of(not_empty) == ".: is not empty; choose another run directory"


def test_a_run_directory_that_is_not_what_was_meant(tmp_path: Path, start: Start, write: Write) -> None:
    path = write()
    create_run(tmp_path / "run", load(path), (str(GATED_TASK),)).close()
    (tmp_path / "empty").mkdir()
    export = start("export", "run", "--client", 4, "--out", "ticket.safetensors")
    for process in (start("run", "empty"), start("status", "empty")):
        assert error_of(process) == "empty: is no run directory: it has no run.db"
    assert error_of(export) == "client 4: the run's clients are 0 to 3"
    assert not (tmp_path / "ticket.safetensors").exists()
    another = error_of(start("run", path, "--run-dir", "run", "--set", "seed=8"))
    assert another.startswith("run: holds the run of another experiment")
    no_task = error_of(start("run", "run"))
    assert no_task.startswith("task 'gated_task' is not installed here: name its file with --task")


def test_a_device_that_is_not_there(start: Start, write: Write, tmp_path: Path) -> None:
    """Also where it is the workers of `run` that find out."""
    path = write()
    worker = start("work", "--coordinator", "127.0.0.1:1", "--device", "quantum")
    simulation = start("simulate", path, "--device", "cuda:99", "--run-dir", "simulated")
    assert error_of(worker).startswith("--device quantum: cannot be used here: ")
    assert error_of(simulation).startswith("--device cuda:99: cannot be used here: ")
    assert not (tmp_path / "simulated").exists()
    run = start("run", path, "--device", "quantum", "--run-dir", "run")
    error = error_of(run)
    assert error.startswith(
        "the run failed: no worker is left: worker-1, worker-2: --device quantum: cannot be used here: "
    )
    assert error.endswith("(logs in run/logs)")


def test_empty_clients(start: Start, write: Write, tmp_path: Path) -> None:
    """Where no client of the first round has data, that ends the run at once, and is the last word of all."""
    (tmp_path / "clinics.py").write_text(EMPTY_CLIENTS)
    path = write(task={"name": "clinics.py"}, clients=2, clients_per_round=2)
    simulation = start("simulate", path, "--run-dir", "simulated")
    run = start("run", path, "--workers", 2, "--run-dir", "run")
    reason = (
        "the run failed: round 1: 0 of 2 results, 1 needed: none has ever succeeded, and all clients were given up; "
        "client 0 of task clinics: no training examples (and 1 more alike)"
    )
    for process in (simulation, run):
        assert error_of(process) == reason
    logs = {log.read_text().splitlines()[-1] for log in (tmp_path / "run" / "logs").iterdir()}
    assert logs == {f"lotteryfl: {reason}"}


def test_a_model_with_nothing_to_prune(start: Start, write: Write, tmp_path: Path) -> None:
    (tmp_path / "flat.py").write_text(NOTHING_TO_PRUNE)
    error = error_of(start("run", write(task={"name": "flat.py"}), "--run-dir", "run"))
    assert "its model has nothing to prune" in error
    assert "strategy.name = 'lotteryfl'" in error
    assert not (tmp_path / "run").exists()


def test_a_failed_run_fails_its_workers_with_its_reason(start: Start, write: Write, coordinate: Coordinate) -> None:
    """Also one that waits for work, which never comes: it has none of the sampled clients."""
    path = write(clients_per_round=2, round={"max_attempts": 1, "min_results": 2, "retries": 0})
    idle = min(set(range(4)) - set(LotteryFL(load(path)).sample(1)))
    server = coordinate(path)
    worker = start("work", "--coordinator", server.address, "--task", GATED_TASK, "--clients", idle)
    worker.said("registered")
    hand = HandWorker(server)
    hand.hand_back(hand.poll()[0].assignment.assignment_id)
    assert hand.submit(hand.work().messages()).verdict == pb.SubmitReply.ACCEPTED
    reason = "round 1: 1 of 2 results, 2 needed: clients were given up; stopped"
    assert hand.poll()[0].none == pb.NoWork(failed=True, reason=reason)
    assert error_of(worker, PROMPT) == f"the run failed: {reason}"
    assert server.ended() == f"the run failed: {reason}"
