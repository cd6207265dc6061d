"""A client's trouble is the client's: whatever its data, its model or its training raises, on one worker or several."""

import asyncio
import re
from pathlib import Path

import pytest

from lotteryfl.exitcodes import LEFT_OUT
from lotteryfl.running.localworkers import LocalWorkers
from lotteryfl.running.workerprocesses import MOST_RESTARTS
from lotteryfl.server.store.rundir import inspected
from lotteryfl.server.store.status import status_of
from tests.support.processes import Gate
from tests.support.runs import GATED_TASK, Coordinate, Start, Write, read_summary

TROUBLED = """
import sys
import torch
from torch import nn
from torch.utils.data import Dataset

def part(n, seed):
    x = torch.randn(n, 8, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] > 0).long()

def model():
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))

class Broken(Dataset):
    def __len__(self):
        return 24

    def __getitem__(self, i):
        if i == 5:
            raise OSError("scan_0005.png is truncated")
        return torch.ones(8), 0

def client(k, experiment):
    if k == 4:
        sys.exit("no such clinic")
    train = Broken() if k == 1 else part({2: 1, 3: 0}.get(k, 24), k)
    return train, part(8, 100 + k), part(8, 200 + k)
"""
REASONS = {
    1: r"client 1 of task troubled: OSError at troubled\.py:20: scan_0005\.png is truncated",
    2: r"client 2 of task troubled: ValueError at \w+\.py:\d+: Expected more than 1 value per channel .*",
    3: r"client 3 of task troubled: no training examples",
    4: r"client 4 of task troubled: client\(\) failed at .*/troubled\.py:25: SystemExit: no such clinic",
}
"""By client that must sit out: why."""

STATEFUL = """
import torch
from torch import nn

def part(n, seed):
    x = torch.randn(n, 8, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] > 0).long()

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
        self.steps = 0
        self.register_buffer("seen", torch.zeros(8), persistent=False)

    def forward(self, x):
        if self.training:
            self.steps += 1
            self.seen = 0.9 * self.seen + 0.1 * x.detach().mean(0)
        return self.net(x - self.seen) * (1 + self.steps / 10)

model = Model

def client(k, experiment):
    return part(24, k), part(8, 100 + k), part(8, 200 + k)
"""

DEADLY = """
import os, signal
from pathlib import Path
from tests.support.gated_task import client as gated, model

def client(k, experiment):
    marker = Path(os.environ["MARKER"])
    if k == 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return gated(k, experiment)
"""

WAYS = {"simulate": ("simulate",), "one": ("run", "--workers=1"), "four": ("run", "--workers=4")}
by_all_ways = pytest.mark.parametrize("way", ["simulate", "one", pytest.param("four", marks=pytest.mark.slow)])


@by_all_ways
def test_a_clients_exception_is_the_clients(way: str, tmp_path: Path, start: Start, write: Write) -> None:
    """All that is wrong with clients at once: each sits out on record, by name, and no worker ends."""
    (tmp_path / "troubled.py").write_text(TROUBLED)
    path = write(task={"name": "troubled.py"}, rounds=1, clients=6, clients_per_round=6, training={"epochs": 1})
    process = start(*WAYS[way], path, "--run-dir", "run")
    assert process.exit_code() == LEFT_OUT, process.stderr
    assert "Traceback" not in process.stderr
    with inspected(tmp_path / "run") as run:
        for round_ in (1, 2):
            rows = {row.client: row for row in run.database.assignments(round_)}
            assert {client for client, row in rows.items() if row.state == "dropped"} == set(REASONS)
            for client, reason in REASONS.items():
                assert re.fullmatch(reason, rows[client].reason)
                assert rows[client].attempt == 3
    asked = start("status", "run")
    assert asked.exit_code() == 0
    for client, reason in REASONS.items():
        line = rf"left out: client {client} of 2 rounds, the last 2: {reason}"
        assert re.search(f"^{line}$", asked.stdout, re.MULTILINE), asked.stdout
        assert re.search(f"^warning: {line}$", process.stderr, re.MULTILINE), process.stderr
        assert re.search(rf"^ *{client} *$", process.stdout, re.MULTILINE), "a line of the table, with nothing in it"
    if way != "simulate":
        logs = [log.read_text() for log in (tmp_path / "run" / "logs").iterdir()]
        assert all(log.rstrip().endswith("the run has finished") for log in logs)
    again = start(*WAYS[way], "run", "--task", "troubled.py", "--allow-missing")
    assert again.exit_code() == 0, again.stderr
    assert "warning: left out: client 1" in again.stderr


@pytest.mark.slow
def test_a_model_that_keeps_state_beside_its_tensors_gives_the_same_bits(
    tmp_path: Path, start: Start, write: Write
) -> None:
    """Nothing of one client reaches the next on the same worker."""
    (tmp_path / "stateful.py").write_text(STATEFUL)
    path = write(task={"name": "stateful.py"}, rounds=2)
    for way, command in WAYS.items():
        process = start(*command, path, "--run-dir", way)
        assert process.exit_code() == 0, process.stderr
    found = {
        (summary["model_sha256"], summary["tickets_sha256"])
        for summary in map(read_summary, map(tmp_path.joinpath, WAYS))
    }
    assert len(found) == 1


@pytest.mark.parametrize("shares", [False, True])
def test_of_private_clients_the_coordinator_is_told_type_and_place_alone(
    shares: bool, tmp_path: Path, start: Start, write: Write, coordinate: Coordinate
) -> None:
    (tmp_path / "troubled.py").write_text(TROUBLED)
    server = coordinate(write(task={"name": str(tmp_path / "troubled.py")}, rounds=1, clients=2, clients_per_round=2))
    options = ("--clients=0-1", *(("--share-errors",) if shares else ()))
    worker = start("work", "--coordinator", server.address, "--task", "troubled.py", *options)
    assert worker.exit_code() == 0, worker.stderr
    assert re.search(f"handed back: {REASONS[1]}$", worker.stderr, re.MULTILINE), "its own log has it all"
    (left_out,) = status_of(server.run).left_out
    told = REASONS[1] if shares else REASONS[1].partition(": scan")[0]
    assert re.fullmatch(told, left_out.reason)


@pytest.mark.parametrize("workers", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_local_worker_that_dies_is_named_and_started_again(
    workers: int, tmp_path: Path, start: Start, write: Write
) -> None:
    (tmp_path / "deadly.py").write_text(DEADLY)
    path = write(task={"name": "deadly.py"}, rounds=1, clients_per_round=4)
    environment = {"MARKER": str(tmp_path / "died")}
    process = start("run", path, "--workers", workers, "--run-dir", "run", env=environment)
    assert process.exit_code() == 0, process.stderr
    assert re.search(r"^worker-\d has died and is started again: ended by signal 9 \(log: .*\)$", process.stderr, re.M)
    undisturbed = start("simulate", path, "--run-dir", "undisturbed", env=environment)
    assert undisturbed.exit_code() == 0, undisturbed.stderr
    for key in ("model_sha256", "tickets_sha256"):
        assert read_summary(tmp_path / "run")[key] == read_summary(tmp_path / "undisturbed")[key]


def test_a_worker_that_dies_again_and_again_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it dies before it is anything; of the rounds after the first it has as many restarts again."""
    (tmp_path / "sitecustomize.py").write_text("import os, sys\nprint('no memory', flush=True)\nos._exit(9)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    notes: list[str] = []
    local = LocalWorkers(tmp_path / "logs", lambda: 1 + (len(notes) >= 3), notes.append)

    async def until_all_have_ended() -> str:
        async with local.started(1, []):
            return await local.all_ended()

    reason = f"exit code 9: no memory (log: {tmp_path}/logs/worker-1.log)"
    assert asyncio.run(until_all_have_ended()) == f"worker-1: exit code 9: no memory (logs in {tmp_path}/logs)"
    assert notes == [f"worker-1 has died and is started again: {reason}"] * (3 + MOST_RESTARTS)


def test_a_file_that_one_worker_cannot_read_is_read_by_another(
    tmp_path: Path, start: Start, write: Write, coordinate: Coordinate, gate: Gate
) -> None:
    """Where nobody shows who they are: a word about one's own disk ends no run."""
    (tmp_path / "here.py").write_text(
        "import os\nfrom tests.support.gated_task import client as gated, model\n\n"
        "def client(k, experiment):\n    open(os.environ['DATA']).close()\n    return gated(k, experiment)\n"
    )
    server = coordinate(write(task={"name": str(tmp_path / "here.py")}, rounds=1, round={"max_attempts": 2}))
    command = ("work", "--coordinator", server.address, "--task", "here.py")
    able = start(*command, "--name", "able", env={"DATA": str(GATED_TASK), **gate.env})
    gate.arrival()
    unable = start(*command, "--name", "unable", env={"DATA": "gone"})
    unable.said("handed back: .*FileNotFoundError")
    gate.open()
    for worker in (able, unable):
        assert worker.exit_code() == 0, worker.stderr
    assert server.ended() == ""
    assert not status_of(server.run).left_out
