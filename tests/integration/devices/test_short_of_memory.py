"""Memory that runs out in work: named with what there was, handed back, and no worker or run has ended for it."""

import os
import re
from pathlib import Path

import pytest

from lotteryfl.exitcodes import LEFT_OUT
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.summary import summarise
from lotteryfl.server.store.rundir import inspected
from lotteryfl.server.store.status import status_of
from tests.integration.devices.conftest import Child, Machine
from tests.support.processes import Gate
from tests.support.runs import Coordinate, Expect, Start, Write
from tests.support.waiting import DEADLINE, until

GREEDY = """
import resource
import sys
import threading
import traceback
import torch
from torch import nn
from tests.support.gated_task import client as gated, model as plain
from tests.support.waiting import until

now = None

class Greedy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()

    def forward(self, x):
        if self.training and now in {who}:
            {take}
        return self.net(x)

def client(k, experiment):
    global now
    now = k
    {limit}
    return gated(k, experiment)

def until_the_next_is_in_hand():
    fetching = next(thread for thread in threading.enumerate() if thread.name == "fetching")
    until(lambda: "wait_for_room" in str(traceback.extract_stack(sys._current_frames()[fetching.ident])))

model = Greedy
"""
RAISE = 'raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")'
RAISE_BESIDE_THE_NEXT = f"until_the_next_is_in_hand(); {RAISE}"
TAKE = "torch.empty(1 << 36)"
LIMIT = "resource.setrlimit(resource.RLIMIT_AS, (1 << 36, 1 << 36))"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_the_assignment_goes_back_and_there_is_one_worker_less(
    tmp_path: Path, work_on: Start, write: Write, gate: Gate, coordinate: Coordinate, machine: Machine
) -> None:
    (tmp_path / "greedy.py").write_text(GREEDY.format(who=(1,), take=RAISE, limit=""))
    one = {"rounds": 1, "clients_per_round": 4, "round": {"leases": 1}}
    server = coordinate(write(task={"name": str(tmp_path / "greedy.py")}, **one))
    env = machine(cores=2) | gate.env
    workers = work_on(server.address, "cpu", "--per-device=auto", task=tmp_path / "greedy.py", env=env)
    assert len({gate.arrival().pid, gate.arrival().pid}) == 2
    gate.open()
    assert workers.exit_code() == 0, workers.stderr
    assert "Traceback" not in workers.stderr
    assert server.ended() == ""
    said = re.findall(r"^cpu: .*$", workers.stderr, re.MULTILINE)
    assert said == [
        "cpu: 2 workers, and so it stays: there are 2 cores",
        "cpu: 1 worker, and so it stays: memory was short with 2",
    ]
    assert re.search(r"^cpu/2: .* host/cpu/2: left; what was under work was handed back$", workers.stderr, re.M)
    assert len(re.findall(r"the run has finished$", workers.stderr, re.M)) == 1
    (left_out,) = status_of(server.run).left_out
    place = r"OutOfMemoryError at greedy\.py:20: CUDA out of memory\. Tried to allocate 2\.00 GiB\."
    needed = r"the work was counted as \d+\.\d kB of the machine \(.*\), and there are \d+\.\d GB \(what is free .*\)"
    assert re.fullmatch(rf"client 1 of task greedy: {place}; {needed}", left_out.reason), left_out.reason


def test_a_worker_first_does_without_the_next_assignment(
    tmp_path: Path, child: Child, write: Write, gate: Gate, coordinate: Coordinate
) -> None:
    (tmp_path / "greedy.py").write_text(GREEDY.format(who=(0, 1), take=RAISE_BESIDE_THE_NEXT, limit=""))
    server = coordinate(write(task={"name": str(tmp_path / "greedy.py")}, clients=2, clients_per_round=2))
    worker, line = child(server)
    with line.makefile() as told:
        assert "threads" in told.readline()
        gate.arrival()
        until(lambda: len(server.stub.GetRun(pb.GetRunRequest(), timeout=DEADLINE).in_flight) == 2)
        gate.open()
        worker.said("does without the next assignment beside the one under work: two take more than there is: .*OutOf")
        assert "short_of_memory" in told.readline()
    assert worker.stderr.count("does without the next assignment") == 1


def test_under_a_real_limit_the_others_go_on(tmp_path: Path, start: Start, write: Write) -> None:
    (tmp_path / "greedy.py").write_text(GREEDY.format(who=(1,), take=TAKE, limit=LIMIT))
    path = write(task={"name": "greedy.py"}, rounds=1, clients_per_round=4)
    process = start("simulate", path, "--run-dir", "run")
    assert process.exit_code() == LEFT_OUT, process.stderr
    with inspected(tmp_path / "run") as run:
        reasons = {row.client: row.reason for row in run.database.assignments(1) if row.state == "dropped"}
    assert list(reasons) == [1]
    failed = r"RuntimeError at greedy\.py:20: .*can't allocate memory: you tried to allocate 274877906944 bytes"
    assert re.search(rf"{failed}.*; the work was counted as .*, and there are ", reasons[1])
    assert re.search(r"\(what is (left of RLIMIT_AS|free of the machine's memory)\)$", reasons[1])


COPYING = """
import torch
from tests.support.gated_task import client, model as plain

once = []

class Copying(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()

    def forward(self, x):
        if self.training and not once:
            once.append(0)
        return self.net(x)

    def __deepcopy__(self, memo):
        if once == [0]:
            once.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        copy = Copying()
        copy.load_state_dict(self.state_dict())
        return copy

model = Copying
"""


def test_what_finds_no_memory_for_its_model_waits_for_what_is_under_work(
    tmp_path: Path, start: Start, write: Write, coordinate: Coordinate
) -> None:
    """The model for the next assignment is made before that arrives."""
    (tmp_path / "copying.py").write_text(COPYING)
    server = coordinate(write(task={"name": str(tmp_path / "copying.py")}, rounds=1, round={"broadcasts": False}))
    worker = start("work", "--coordinator", server.address, "--task", "copying.py")
    assert worker.exit_code() == 0, worker.stderr
    assert "Traceback" not in worker.stderr
    said = r"does without the next assignment beside the one under work: .*CUDA out of memory\.$"
    assert len(re.findall(said, worker.stderr, re.MULTILINE)) == 1
    assert server.ended() == ""
    assert not status_of(server.run).left_out


LARGE = """
import numpy as np
from tests.support.gated_task import client as gated, model

def client(k, experiment):
    train, validation, test = gated(k, experiment)
    return train, validation, tuple(np.concatenate([part] * 100) for part in test)
"""


def test_what_does_not_fit_on_one_card_is_done_on_another(
    tmp_path: Path, work_on: Start, write: Write, coordinate: Coordinate, expect: Expect, machine: Machine, gate: Gate
) -> None:
    """It is known before the work begins, by one look at the client's data: its evaluations take large batches."""
    (tmp_path / "large.py").write_text(LARGE)
    two = {"rounds": 1, "clients": 2, "clients_per_round": 2}
    path = write(task={"name": str(tmp_path / "large.py")}, **two, round={"leases": 1})
    server = coordinate(path)
    env = machine(cards=2, free=60_000) | gate.env
    workers = work_on(server.address, "all", task=tmp_path / "large.py", env=env)
    assert len({gate.arrival().pid, gate.arrival().pid}) == 2, "both have been given work"
    gate.open()
    assert workers.exit_code() == 0, workers.stderr
    takes = (
        r"the work takes \d+\.\d kB, and this worker takes on 60\.0 kB \(what is free on cpu:0\): batch \d+\.\d kB, .*"
    )
    back = re.findall(rf"^(cpu\d)/1: .*: handed back: client \d of task large: {takes}$", workers.stderr, re.MULTILINE)
    assert set(back) == {"cpu0"}
    assert len(re.findall(r"the run has finished$", workers.stderr, re.MULTILINE)) == 2
    assert server.ended() == ""
    assert not status_of(server.run).left_out
    assert summarise(server.run)["tickets_sha256"] == expect(path)["tickets_sha256"]


FULL = """
import threading
import torch
from tests.support.gated_task import client, model

arrivals = 0
copy_ = torch.Tensor.copy_

def copy_where_there_is_room(tensor, *arguments, **options):
    global arrivals
    if threading.current_thread().name == "fetching" and tensor.shape == (16, 12):
        arrivals += 1
        if arrivals == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
    return copy_(tensor, *arguments, **options)

torch.Tensor.copy_ = copy_where_there_is_room
"""


def test_what_finds_no_memory_when_it_arrives_goes_back_and_comes_again(
    tmp_path: Path, start: Start, write: Write, gate: Gate, coordinate: Coordinate, expect: Expect
) -> None:
    """The values of the second assignment do while the first is under work; that one goes on."""
    (tmp_path / "full.py").write_text(FULL)
    path = write(task={"name": str(tmp_path / "full.py")}, rounds=1, clients=2, clients_per_round=2)
    server = coordinate(path)
    worker = start("work", "--coordinator", server.address, "--task", "full.py", env=gate.env)
    assert gate.arrival().client == 0
    worker.said(r"r1-c1-a1: handed back: memory ran out while it arrived: CUDA out of memory\.$")
    gate.open()
    assert worker.exit_code() == 0, worker.stderr
    assert "Traceback" not in worker.stderr
    said = (
        r"does without the next assignment beside the one under work: two take more than there is: CUDA out of memory"
    )
    assert len(re.findall(said, worker.stderr, re.MULTILINE)) == 1
    assert re.search(r"r1-c0-a1: accepted", worker.stderr)
    assert re.search(r"r1-c1-a2: accepted", worker.stderr)
    assert server.ended() == ""
    assert not status_of(server.run).left_out
    assert summarise(server.run)["tickets_sha256"] == expect(path)["tickets_sha256"]
