"""One version and another: run directories of earlier ones go on, and peers of one protocol work together."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lotteryfl.common.experiment.experiment import Experiment, load, load_resolved
from lotteryfl.common.tensors.file import open_file
from lotteryfl.common.training.recipe import TrainingSettings
from lotteryfl.server.results.reporting.data import read_run
from lotteryfl.server.results.summary import write_summary
from lotteryfl.server.results.verify import verify
from lotteryfl.server.results.view import open_run
from lotteryfl.server.rounds.setup import create_run
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.paths import ROOT
from tests.support.runs import GATED_TASK, Expect, Start, Write, assert_same_bits
from tests.support.waiting import until

FIXTURES = ROOT / "tests" / "fixtures"
TASK = FIXTURES / "fixture_task.py"
VERSIONS = ["0.1"]
"""Those of which there are run directories: `run-VERSION` was killed, `run-VERSION-finished` went on to its end."""
ARITHMETIC = "91feb5e4c36616e0df7e8642f5db685aadfe604b666800e4281001562da9fffc"
"""What the machine that made them came to in `arithmetic`."""


def arithmetic() -> str:
    """Return the digest of some training by torch alone: the same where machines round alike."""
    random = np.random.default_rng(0)
    inputs = torch.from_numpy(random.integers(-6, 7, (24, 12)).astype(np.float32))
    labels = torch.from_numpy(random.integers(3, size=24))
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(random.integers(-8, 9, parameter.shape).astype(np.float32) / 32))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0625, momentum=0.5)
    for _ in range(50):
        for batch in range(0, 24, 8):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs[batch : batch + 8]), labels[batch : batch + 8])
            loss.backward()
            optimizer.step()
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()


def copied(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / name, folder / name))


# -- run directories


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_of_an_earlier_version_can_be_looked_at(version: str, tmp_path: Path, start: Start) -> None:
    stopped, finished = copied(f"run-{version}", tmp_path), copied(f"run-{version}-finished", tmp_path)
    looks = {
        "running": start("status", stopped),
        "finished": start("status", finished),
        "sound": start("verify", stopped),
        "ticket": start("export", finished, "--client", 2, "--out", tmp_path / "ticket.safetensors"),
    }
    for process in looks.values():
        assert process.exit_code() == 0, process.stderr
    stands = "5 clients: stopped: no process has it\nrounds: 2 of 4 committed\nopen round: 1 of 4 results"
    assert stands in looks["running"].stdout
    assert "5 clients: finished" in looks["finished"].stdout
    assert looks["sound"].stdout.splitlines()[-1] == "sound"
    assert verify(finished).problems == 0
    exported = open_file(tmp_path / "ticket.safetensors")
    with open_run(finished) as run:
        assert len(run.metrics()["round"].unique()) == 5
        assert len(run.assignments()) == 21
        assert all(torch.equal(exported[name], tensor) for name, tensor in run.ticket(2).items())
    assert [len(read_run(path).rounds.number) for path in (stopped, finished)] == [2, 5]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("command", [("run", "--workers=2"), ("simulate",)], ids=["run", "simulate"])
def test_a_run_of_an_earlier_version_goes_on_to_the_same_bits(
    version: str, command: tuple[str, ...], tmp_path: Path, start: Start
) -> None:
    path = copied(f"run-{version}", tmp_path)
    process = start(*command, path, "--task", TASK, "--device", "cpu")
    assert process.exit_code() == 0, process.stderr
    report = verify(path)
    assert report.problems == 0, list(report.lines())
    if arithmetic() != ARITHMETIC:
        pytest.skip("this machine rounds otherwise than the one that began the run")
    of_its_time = json.loads((FIXTURES / f"run-{version}-finished" / "summary.json").read_text())
    of_its_time.setdefault("left_out", [])  # 0.1 did not write who: nobody was
    assert_same_bits(path, of_its_time)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_default_has_changed_since(version: str) -> None:
    """Or a worker that is sent no such key would take it for something else."""
    written = load(FIXTURES / f"run-{version}.toml")
    assert load_resolved(FIXTURES / f"run-{version}" / "experiment.toml") == written


@pytest.mark.parametrize("version", VERSIONS)
def test_a_finished_run_comes_to_the_summary_of_its_time(version: str, tmp_path: Path) -> None:
    path = copied(f"run-{version}-finished", tmp_path)
    before = json.loads((path / "summary.json").read_text())
    with open_run(path) as run:
        assert {**run.summary(), **before} == run.summary(), "keys may come, none goes or changes"


# -- peers of one protocol


class NewerTraining(TrainingSettings):
    """As a later version may have it."""

    novelty: int = 0


class NewerExperiment(Experiment):
    """As a later version may have it."""

    training: NewerTraining = NewerTraining()


Newer = Callable[..., CoordinatorThread]


@pytest.fixture
def newer(tmp_path: Path, write: Write) -> Iterator[Newer]:
    """Serve GATED in a version that has a key `training.novelty`: `newer(novelty=3)`."""
    with ExitStack() as stack:

        def newer_(novelty: int) -> CoordinatorThread:
            experiment = load(write())
            run = stack.enter_context(create_run(tmp_path / "run", experiment, (str(GATED_TASK),)))
            table = experiment.model_dump()
            table["training"]["novelty"] = novelty
            run.experiment = NewerExperiment.model_validate(table)
            return stack.enter_context(CoordinatorThread(run))

        yield newer_


def test_a_newer_coordinator_has_older_workers_while_nothing_new_is_used(
    newer: Newer, start: Start, write: Write, expect: Expect, tmp_path: Path
) -> None:
    coordinator = newer(novelty=0)
    worker = start("work", "--coordinator", coordinator.address, "--task", GATED_TASK, "--name", "older")
    assert coordinator.ended(60) == ""
    assert worker.exit_code() == 0, worker.stderr
    write_summary(coordinator.run)
    assert_same_bits(tmp_path / "run", expect(write()))


def test_an_older_worker_names_the_key_that_it_does_not_know(newer: Newer, start: Start) -> None:
    worker = start("work", "--coordinator", newer(novelty=3).address, "--task", GATED_TASK, "--name", "older")
    assert worker.exit_code() == 1
    expected = "the coordinator's experiment: unknown key training.novelty = 3; a newer lotteryfl has it"
    assert worker.error_line == expected


def test_an_older_worker_names_the_step_that_it_does_not_know(start: Start, write: Write, tmp_path: Path) -> None:
    experiment = load(write())
    with create_run(tmp_path / "run", experiment, (str(GATED_TASK),)) as run:
        with CoordinatorThread(run):
            until(lambda: run.database.is_open(1))
        run.database.select("UPDATE assignments SET plan = CAST(plan || x'980601' AS BLOB)")  # field 99 = 1
        with CoordinatorThread(run) as coordinator:
            worker = start("work", "--coordinator", coordinator.address, "--task", GATED_TASK, "--name", "older")
            assert worker.exit_code() == 1
        expected = "the coordinator's plan has a field 99, which this version does not know: a newer lotteryfl sent it"
        assert worker.error_line == expected
        assert [row.state for row in run.database.assignments(1)] == ["waiting"] * 3, "it was handed back"
