"""A run that is taken up is the run that was set up: by its experiment and its model; and it may become longer."""

import signal
from contextlib import suppress
from pathlib import Path

import pytest

from lotteryfl.common.experiment.experiment import load
from lotteryfl.common.tasks import load_task
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.running.opened import opened_again
from lotteryfl.running.owncode import OwnCode
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.results.summary import write_summary
from lotteryfl.server.results.verify import verify
from lotteryfl.server.rounds.setup import create_run
from lotteryfl.server.rpc.endpoint import Endpoint
from tests.support.bench import CPU
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.processes import Gate, free_port
from tests.support.runs import GATED_TASK, Expect, Start, Write, assert_same_bits, read_summary

GROWING = """
import os
import numpy as np
from torch import nn


def model():
    layers = [nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)]
    if os.environ.get("FROZEN"):
        layers[0].weight.requires_grad = False
    return nn.Sequential(*layers, *([nn.Linear(3, 3)] if os.environ.get("EXTRA") else []))


def client(k, experiment):
    return [(np.ones((8, 4)), np.arange(8) % 3)] * 3
"""
"""EXTRA: a layer more. FROZEN: what was prunable is not."""

SIMULATE = ("simulate", "--device", "cpu")
RUN = ("run", "--workers", 2, "--device", "cpu")


def begin(path: Path, folder: Path, looks: int = 0) -> None:
    """Run an experiment in this process, to its end or, with `looks`, until it is interrupted at one of these."""

    def show(_status: pb.RunStatus) -> None:
        nonlocal looks
        looks -= 1
        if looks == 0:
            raise KeyboardInterrupt

    experiment = load(path)
    task = load_task(experiment, (experiment.task.name,))
    with create_run(folder, experiment, (experiment.task.name,)) as run, suppress(KeyboardInterrupt):
        Simulation(run, task, CPU).run(show)
        write_summary(run)


@pytest.mark.parametrize("command", [RUN, SIMULATE], ids=["run", "simulate"])
def test_a_finished_run_is_made_longer(
    command: tuple[object, ...], tmp_path: Path, start: Start, write: Write, expect: Expect
) -> None:
    """To the bits of a run that was begun so."""
    begin(write(rounds=1), tmp_path / "run")
    again = start(*command, "run", "--task", GATED_TASK, "--set", "rounds=3")
    assert again.exit_code() == 0, again.stderr
    expected = expect(write(rounds=3))
    assert "rounds = 3\n" in (tmp_path / "run" / "experiment.toml").read_text()
    assert_same_bits(tmp_path / "run", expected)
    assert verify(tmp_path / "run").problems == 0
    ups = [read_summary(tmp_path / "run")["bytes"]["up"], expected["bytes"]["up"]]
    assert ups[0] > ups[1], "the first measuring was sent, too"


@pytest.mark.slow
def test_an_interrupted_run_is_made_longer_by_a_command_that_dies(
    tmp_path: Path, start: Start, write: Write, expect: Expect
) -> None:
    """As soon as that is on record; whoever goes on with it then need not say it again."""
    begin(write(rounds=2), tmp_path / "run", looks=2)
    command = (*RUN, "run", "--task", GATED_TASK)
    died = start(*command, "--set", "rounds=3", env={"LOTTERYFL_FAULTS": "lengthened-recorded:die"})
    assert died.exit_code() == -signal.SIGKILL
    assert "rounds = 2\n" in (tmp_path / "run" / "experiment.toml").read_text()
    assert verify(tmp_path / "run").problems == 0
    again = start(*command)
    assert again.exit_code() == 0, again.stderr
    assert_same_bits(tmp_path / "run", expect(write(rounds=3)))


def test_a_worker_takes_part_in_the_run_that_has_become_longer(
    tmp_path: Path, start: Start, write: Write, gate: Gate, expect: Expect
) -> None:
    """It knew an experiment in which round 2 is the last, where no update is clipped and all test data is used."""
    changes = {"privacy": {"clip_norm": 0.05}, "evaluation": {"test_examples": 3}}
    experiment = load(write(rounds=1, **changes))
    endpoint, path = Endpoint(f"127.0.0.1:{free_port()}"), tmp_path / "run"
    with create_run(path, experiment, (str(GATED_TASK),)) as run, CoordinatorThread(run, endpoint) as coordinator:
        worker = start("work", "--coordinator", coordinator.address, "--task", GATED_TASK, env=gate.env)
        gate.arrival()
    with opened_again(path, OwnCode((str(GATED_TASK),)), overrides=("rounds=3",)) as opened:
        with CoordinatorThread(opened.directory, endpoint) as coordinator:
            gate.open()
            assert coordinator.ended(60) == ""
        assert worker.exit_code() == 0, worker.stderr
        write_summary(opened.directory)
    assert worker.said("the run's experiment is another now, this worker begins anew")
    assert_same_bits(path, expect(write(rounds=3, **changes)))


def test_an_edited_experiment_is_named_by_every_command(tmp_path: Path, start: Start, write: Write) -> None:
    create_run(tmp_path / "run", load(write()), (str(GATED_TASK),)).close()
    file = tmp_path / "run" / "experiment.toml"
    file.write_text(file.read_text().replace("lr = 0.1\n", "lr = 0.05\n"))
    told = "experiment.toml: training.lr = 0.05, expected 0.1 as run.db has it: "
    processes = [
        start("run", "run", "--task", GATED_TASK),
        start("status", "run"),
        start("export", "run", "--client", 0, "--out", "ticket.safetensors"),
        start("report", "run"),
    ]
    for process in processes:
        assert process.exit_code() == 1
        assert process.error_line.startswith(f"run/{told}")
    sound = start("verify", "run")
    assert sound.exit_code() == 1
    assert f"problem: {told}" in sound.stdout


def test_another_setting_is_refused_by_name(tmp_path: Path, start: Start, write: Write) -> None:
    create_run(tmp_path / "run", load(write()), (str(GATED_TASK),)).close()
    again = start(*SIMULATE, "run", "--task", GATED_TASK, "--set", "training.lr=0.05", "--set", "rounds=9")
    assert again.exit_code() == 1
    told = "run: --set training.lr = 0.05: the run has 0.1, and only its rounds can become more; "
    assert again.error_line.startswith(told)
    other = start("run", write(), "--run-dir", "run", "--set", "training.lr=0.05")
    assert other.exit_code() == 1
    assert "run: holds the run of another experiment (here training.lr = 0.05, there 0.1); " in other.error_line


def test_another_model_is_named_by_simulate(tmp_path: Path, start: Start, write: Write) -> None:
    """As workers name it; also where it is only another rule of what is prunable that made the run's table."""
    (tmp_path / "growing.py").write_text(GROWING)
    create_run(tmp_path / "run", load(write(task={"name": "growing.py"})), (str(tmp_path / "growing.py"),)).close()
    before = (tmp_path / "run" / "run.db").read_bytes()
    command = (*SIMULATE, "run", "--task", "growing.py")
    larger = start(*command, env={"EXTRA": "1"})
    assert larger.exit_code() == 1
    told = "task growing: this worker's model is not the coordinator's: "
    assert larger.error_line == f"{told}tensor '3.bias' is here, but not there"
    frozen = start(*command, env={"FROZEN": "1"})
    assert frozen.exit_code() == 1
    assert frozen.error_line == (
        f"{told}tensor '0.weight': prunable is False here, True there; all else is the same: the run was set up by a "
        "version with another rule of what is prunable, or a layer was frozen since: go on with what it was set up "
        "with, or begin a new run"
    )
    assert (tmp_path / "run" / "run.db").read_bytes() == before
