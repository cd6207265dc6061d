"""A worker that holds two assignments, over real processes: killed, stopped, relieved; the bits stay the same."""

import re
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from lotteryfl.server.results.reporting.data import read_run
from tests.support.processes import Gate, Process, Visit, free_port
from tests.support.runs import GATED_TASK, Expect, Start, Write, assert_same_bits
from tests.support.waiting import until

LISTENING = r"^listening at (127\.0\.0\.1:\d+)$"
TWO_GIVEN = r"given to {0}\n(?:.*\n)*?.*given to {0}$"


class Row(NamedTuple):
    """How an assignment stands on the disk."""

    state: str
    attempt: int
    forgiven: int
    worker: str


def rows_of(folder: Path, round_: int = 1) -> dict[int, Row]:
    """Return by client how the assignments of a round stand."""
    with closing(sqlite3.connect(f"file:{folder / 'run.db'}?mode=ro", uri=True)) as database:
        found = database.execute(
            "SELECT client, state, attempt, forgiven, worker FROM assignments WHERE round = ?", (round_,)
        ).fetchall()
    return {
        client: Row(state, attempt, forgiven, worker.partition(":")[0])
        for client, state, attempt, forgiven, worker in found
    }


class Bed:
    """A coordinator that can be started again, and workers that stop at the gate."""

    def __init__(self, folder: Path, start: Start, path: Path, gate: Gate) -> None:
        self.run, self._start, self._gate = folder / "run", start, gate
        self._command = ("--verbose", "serve", path, "--run-dir", "run", "--listen", f"127.0.0.1:{free_port()}")
        self.serve()

    def serve(self) -> None:
        self.server = self._start(*self._command)
        self.address = self.server.said(LISTENING)[1]

    def work(self, name: str, *options: str) -> Process:
        arguments = (f"--coordinator={self.address}", f"--name={name}", f"--task={GATED_TASK}", *options)
        return self._start("work", *arguments, env=self._gate.env)

    def worker_with_two(self) -> tuple[Process, Visit, int]:
        """Return a worker, the client that it is at, and that of the assignment which it has ahead."""
        worker = self.work("w")
        held = self._gate.arrival()
        self.server.said(TWO_GIVEN.format("w"))
        given = [int(client) for client in re.findall(r"r1-c(\d)-a1: given to w", self.server.stderr)]
        assert held.client == given[0], "the first that it was given is the first that it works on"
        return worker, held, given[1]

    def until_there_are(self, round_: int, *, done: int, leased: int) -> None:
        """Wait until so many of a round are done, and so many are given to a worker."""

        def are_there() -> bool:
            states = Counter(row.state for row in rows_of(self.run, round_).values())
            return (states["done"], states["leased"]) == (done, leased)

        until(are_there)

    def end(self, *workers: Process) -> None:
        self._gate.open()
        for process in (self.server, *workers):
            assert process.exit_code() == 0, process.stderr


@pytest.fixture
def bed(tmp_path: Path, start: Start, write: Write, gate: Gate) -> Bed:
    return Bed(tmp_path, start, write(), gate)


def test_the_next_assignment_comes_while_one_is_worked_on(bed: Bed, tmp_path: Path, expect: Expect) -> None:
    """No more than one does, and none of it is begun."""
    worker, held, ahead = bed.worker_with_two()
    rows = rows_of(bed.run)
    assert rows[held.client] == Row("leased", 1, 0, "w")
    assert rows[ahead] == Row("leased", 1, 1, "w")
    assert sorted(row.state for row in rows.values()) == ["leased", "leased", "waiting"]
    bed.end(worker)
    assert {row[1:] for row in rows_of(bed.run).values()} == {(1, 0, "w")}, "what is done has begun"
    assert_same_bits(bed.run, expect(tmp_path / "tiny.toml"))


def test_the_time_line_has_no_gap_but_the_rounds_barrier(
    tmp_path: Path, start: Start, write: Write, gate: Gate
) -> None:
    """What comes next was given before what is under work was over, but for a round's first."""
    bed = Bed(tmp_path, start, write(rounds=1), gate)
    worker = bed.work("w")
    for round_, clients in ((1, 3), (2, 4)):
        for done in range(clients):
            held = gate.arrival()
            bed.until_there_are(round_, done=done, leased=min(2, clients - done))
            held.let_go()
    bed.end(worker)
    leases = sorted(read_run(bed.run).leases, key=lambda lease: lease.begin)
    assert [lease.round for lease in leases] == [1] * 3 + [2] * 4
    for before, after in pairwise(leases):
        assert (after.begin >= before.end) == (after.round > before.round), (before, after)


def test_of_the_two_that_a_killed_worker_had_one_has_cost_an_attempt(bed: Bed, tmp_path: Path, expect: Expect) -> None:
    worker, held, ahead = bed.worker_with_two()
    worker.send(signal.SIGKILL)
    worker.exit_code()
    successor = bed.work("w")
    bed.server.said(rf"r1-c{held.client}-a1 of w: taken back: w was started anew")
    bed.server.said(rf"r1-c{ahead}-a1 of w: taken back: w was started anew")
    bed.end(successor)
    rows = rows_of(bed.run)
    assert rows.pop(held.client) == Row("done", 2, 0, "w")
    assert rows.pop(ahead) == Row("done", 2, 1, "w")
    assert set(rows.values()) == {Row("done", 1, 0, "w")}
    assert_same_bits(bed.run, expect(tmp_path / "tiny.toml"))


@pytest.mark.slow
def test_both_leases_outlive_a_kill_of_the_coordinator(bed: Bed, tmp_path: Path, expect: Expect) -> None:
    worker, held, ahead = bed.worker_with_two()
    bed.server.send(signal.SIGKILL)
    bed.server.exit_code()
    bed.serve()
    assert rows_of(bed.run)[ahead] == Row("leased", 1, 1, "w")
    held.let_go()
    bed.end(worker)
    assert set(rows_of(bed.run).values()) == {Row("done", 1, 0, "w")}
    assert_same_bits(bed.run, expect(tmp_path / "tiny.toml"))


def test_a_worker_that_is_told_to_stop_hands_both_back(bed: Bed, tmp_path: Path, expect: Expect) -> None:
    worker, held, ahead = bed.worker_with_two()
    worker.send(signal.SIGTERM)
    assert worker.exit_code() == 130
    assert "Traceback" not in worker.stderr
    rows = rows_of(bed.run)
    assert {rows[held.client][:3], rows[ahead][:3]} == {("waiting", 1, 1)}
    bed.end(bed.work("other"))
    assert_same_bits(bed.run, expect(tmp_path / "tiny.toml"))


def test_two_clients_and_two_workers_are_one_each(
    tmp_path: Path, start: Start, write: Write, gate: Gate, expect: Expect
) -> None:
    """Though the first worker came before the second one and had both."""
    path = write(clients=2, clients_per_round=2)
    bed = Bed(tmp_path, start, path, gate)
    first, held, ahead = bed.worker_with_two()
    second = bed.work("second")
    relieved = gate.arrival()
    assert (relieved.client, relieved.pid) == (ahead, second.pid)
    bed.server.said(rf"r1-c{ahead}-a1 of w: withdrawn: second has nothing to do$")
    assert rows_of(bed.run) == {held.client: Row("leased", 1, 0, "w"), ahead: Row("leased", 2, 1, "second")}
    bed.end(first, second)
    assert rows_of(bed.run) == {held.client: Row("done", 1, 0, "w"), ahead: Row("done", 2, 1, "second")}
    assert_same_bits(bed.run, expect(path))


@pytest.mark.slow
def test_with_one_lease_a_worker_does_one_after_the_other(
    tmp_path: Path, start: Start, write: Write, gate: Gate, expect: Expect
) -> None:
    path = write(round={"leases": 1})
    bed = Bed(tmp_path, start, path, gate)
    worker = bed.work("w")
    for done in range(3):
        held = gate.arrival()
        assert sorted(row.state for row in rows_of(bed.run).values()) == sorted(
            ["leased", *["done"] * done, *["waiting"] * (2 - done)]
        )
        held.let_go()
    bed.end(worker)
    assert_same_bits(bed.run, expect(path))


def test_where_a_second_model_does_not_fit_the_worker_says_so_once_and_does_without(
    bed: Bed, tmp_path: Path, gate: Gate, expect: Expect
) -> None:
    worker = bed.work("w", "--max-memory=0.00002")  # 21.5 kB; one takes 18.9 with the batches of its client's data
    gate.arrival()
    bed.server.said("given to w")
    gate.open()
    bed.end(worker)
    assert worker.stderr.count("does without the next assignment beside the one under work: two take") == 1
    assert_same_bits(bed.run, expect(tmp_path / "tiny.toml"))
