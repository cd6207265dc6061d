"""Clients that train as one model, over real processes: the same bits whoever does it, and whatever is killed."""

import re
import signal
from pathlib import Path
from typing import Any

import pytest

from lotteryfl.exitcodes import LEFT_OUT
from lotteryfl.server.store.rundir import inspected
from tests.support.processes import Gate, Process, free_port
from tests.support.runs import GATED_TASK, Expect, Start, Write, assert_same_bits, read_summary

STACKED: dict[str, Any] = {"engine": {"stacked": 3}, "clients": 5, "clients_per_round": 5, "rounds": 2}
PICKY = """
import torch
import torch.nn.functional as F
from tests.support.gated_task import client as gated, model
from lotteryfl import Objective

class Picky(Objective):
    mean_over_examples = True

    def outputs(self, model, batch):
        self.trains = model.training
        return model(batch[0])

    def loss(self, outputs, batch):
        if self.trains and batch[1].dtype == torch.uint8:
            raise ArithmeticError("labels are bytes")
        return F.cross_entropy(outputs, batch[1].long())

objective = Picky

def client(k, experiment):
    dtype = torch.uint8 if k == 0 else torch.int64
    return [(torch.tensor(x).float(), torch.tensor(y).to(dtype)) for x, y in gated(k, experiment)]
"""
LISTENING = r"^listening at (127\.0\.0\.1:\d+)$"


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_workers_give_the_same_bits_as_one_process(
    workers: int, tmp_path: Path, start: Start, write: Write, expect: Expect
) -> None:
    path = write(**STACKED)
    process = start("run", path, "--workers", workers, "--task", GATED_TASK, "--run-dir", "run")
    assert process.exit_code() == 0, process.stderr
    expected = expect(path)
    assert expected["engine"] == "stacked 3"
    assert_same_bits(tmp_path / "run", expected)


def test_a_loss_that_fails_for_the_first_client_is_that_clients(tmp_path: Path, start: Start, write: Write) -> None:
    """The first client's data are what a process tries its model on, which takes batches of all others."""
    (tmp_path / "picky.py").write_text(PICKY)
    path = write(**STACKED, task={"name": "picky.py"}, strategy={"name": "fedavg"})
    for way in (("simulate",), ("run", "--workers=1")):
        process = start(*way, path, "--run-dir", way[0])
        assert process.exit_code() == LEFT_OUT, process.stderr
        with inspected(tmp_path / way[0]) as run:
            rows = {row.client: row for row in run.database.assignments(1)}
        assert {client for client, row in rows.items() if row.state == "dropped"} == {0}
        failed = r"client 0 of task picky: ArithmeticError at picky\.py:\d+: labels are bytes"
        assert re.fullmatch(failed, rows[0].reason), rows[0].reason
        assert rows[0].attempt == 3
    assert (tmp_path / "run/logs/worker-1.log").read_text().rstrip().endswith("the run has finished")
    assert_same_bits(tmp_path / "run", read_summary(tmp_path / "simulate"))


class Bed:
    """A coordinator that can be started again, and workers that stop at the gate, client by client."""

    def __init__(self, start: Start, path: Path, gate: Gate) -> None:
        self._start, self._gate = start, gate
        self._command = ("--verbose", "serve", path, "--run-dir", "run", "--listen", f"127.0.0.1:{free_port()}")
        self.serve()

    def serve(self) -> None:
        self.server = self._start(*self._command)
        self.address = self.server.said(LISTENING)[1]

    def work(self, name: str) -> Process:
        arguments = (f"--coordinator={self.address}", f"--name={name}", f"--task={GATED_TASK}")
        return self._start("work", *arguments, env=self._gate.env)

    def worker_in_a_stack(self) -> Process:
        """Return a worker that is at the second client of the first stack: what it did of the first is its own."""
        worker = self.work("w")
        first = self._gate.arrival()
        assert first.client == 0
        first.let_go()
        assert self._gate.arrival().client == 1
        return worker

    def end(self, *workers: Process) -> None:
        self._gate.open()
        for process in (self.server, *workers):
            assert process.exit_code() == 0, process.stderr


def test_a_worker_that_is_killed_in_a_stack_has_spent_an_attempt_at_all_of_it(
    tmp_path: Path, start: Start, write: Write, gate: Gate, expect: Expect
) -> None:
    path = write(**STACKED)
    bed = Bed(start, path, gate)
    worker = bed.worker_in_a_stack()
    worker.send(signal.SIGKILL)
    worker.exit_code()
    successor = bed.work("w")
    for client in range(3):
        bed.server.said(rf"r1-c{client}-a1 of w: taken back: w was started anew")
        bed.server.said(rf"r1-c{client}-a2: given to w")
    bed.end(successor)
    assert_same_bits(tmp_path / "run", expect(path))


@pytest.mark.slow
def test_a_stack_outlives_a_kill_of_the_coordinator(
    tmp_path: Path, start: Start, write: Write, gate: Gate, expect: Expect
) -> None:
    path = write(**STACKED)
    bed = Bed(start, path, gate)
    worker = bed.worker_in_a_stack()
    bed.server.send(signal.SIGKILL)
    bed.server.exit_code()
    bed.serve()
    bed.end(worker)
    assert "r1-c0-a2" not in bed.server.stderr
    assert_same_bits(tmp_path / "run", expect(path))


@pytest.mark.slow
def test_workers_that_share_a_stack_by_their_clients_give_the_same_bits(
    tmp_path: Path, start: Start, write: Write, gate: Gate, expect: Expect
) -> None:
    path = write(**STACKED)
    bed = Bed(start, path, gate)
    shared = (f"--coordinator={bed.address}", f"--task={GATED_TASK}")
    holders = [
        start("work", *shared, f"--name={name}", f"--clients={clients}")
        for name, clients in (("a", "0,2"), ("b", "1,3-4"))
    ]
    bed.end(*holders)
    assert_same_bits(tmp_path / "run", expect(path))
