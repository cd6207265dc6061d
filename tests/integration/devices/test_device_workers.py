"""One command, several workers: placed, watched, started again, and gone with the command, whatever ends it."""

import json
import os
import re
import signal
from collections import Counter
from pathlib import Path

import pytest
import torch

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.summary import summarise
from tests.integration.devices.conftest import Machine
from tests.support.processes import Gate
from tests.support.runs import Coordinate, Expect, Start, Write
from tests.support.waiting import DEADLINE, PROMPT, until


def is_there(pid: int) -> bool:
    """Tell whether a process runs, or has ended without anybody's having asked how."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_three_workers_are_one_also_when_one_is_killed(
    start: Start, work_on: Start, write: Write, gate: Gate, coordinate: Coordinate, expect: Expect
) -> None:
    """The one that was killed is named, and comes back under its name, by which its work is free for another."""
    path = write()
    server = coordinate(path)
    workers = work_on(server.address, "cpu", "--per-device=3", env=gate.env)
    visits = [gate.arrival() for _ in range(3)]
    assert len({visit.pid for visit in visits} | {workers.pid}) == 4
    asked = start("status", server.address, "--json")
    assert asked.exit_code() == 0, asked.stderr
    status = json.loads(asked.stdout)
    assert status["devices"] == {"cpu": 3}
    for number, machine in enumerate(status["machines"], start=1):
        assert machine["worker"] == f"host/cpu/{number}"
        assert (machine["device"], machine["torch_version"]) == ("cpu", torch.__version__)
        assert int(machine["device_memory"]) > 1 << 20
    os.kill(visits[0].pid, signal.SIGKILL)
    name = workers.said(r"^(host/cpu/\d) has died and is started again: ended by signal 9$")[1]
    workers.said(rf"{name}: registered, on cpu\n(.*\n)*.*{name}: registered, on cpu$")
    visits[1].let_go()
    again = gate.arrival(PROMPT)
    assert (again.client, again.pid) == (visits[0].client, visits[1].pid), "no lease had to run out for it"
    gate.open()
    assert workers.exit_code() == 0, workers.stderr
    assert server.ended() == ""
    assert summarise(server.run)["model_sha256"] == expect(path)["model_sha256"]
    assert summarise(server.run)["tickets_sha256"] == expect(path)["tickets_sha256"]
    ends = Counter(re.findall(r"^(cpu/\d): .* the run has finished$", workers.stderr, re.MULTILINE))
    assert ends == {"cpu/1": 1, "cpu/2": 1, "cpu/3": 1}
    assert name in {f"host/{short}" for short in ends}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_with_the_command_all_its_workers_go_and_hand_their_work_back(
    number: signal.Signals, work_on: Start, write: Write, gate: Gate, coordinate: Coordinate
) -> None:
    server = coordinate(write())
    workers = work_on(server.address, "cpu", "--per-device=2", env=gate.env)
    pids = {gate.arrival().pid, gate.arrival().pid}
    workers.send(number)
    assert workers.exit_code(PROMPT) == (130 if number == signal.SIGTERM else -number)
    until(lambda: not any(map(is_there, pids)))
    status: pb.RunStatus = server.stub.GetRun(pb.GetRunRequest(), timeout=DEADLINE)
    assert (status.workers, len(status.in_flight)) == (0, 0), "nobody waits for a lease to run out"
    if number == signal.SIGTERM:
        assert workers.stderr.endswith("stopped; what was under work was handed back\n")
        assert len(re.findall(r"^cpu/\d: .* left; what was under work was handed back$", workers.stderr, re.M)) == 2
        assert "Traceback" not in workers.stderr


@pytest.mark.slow
def test_all_that_failed_alike_are_named_together_and_the_exit_code_is_theirs(
    tmp_path: Path, work_on: Start, write: Write, coordinate: Coordinate
) -> None:
    source = "from tests.support.gated_task import client, model\n"
    (tmp_path / "mine.py").write_text(source)
    server = coordinate(write(task={"name": str(tmp_path / "mine.py")}))
    (tmp_path / "mine.py").write_text(f"{source}# another version\n")
    workers = work_on(server.address, "cpu", "--per-device=2", task=tmp_path / "mine.py")
    assert workers.exit_code() == 5
    (line,) = [line for line in workers.stderr.splitlines() if line.startswith("lotteryfl: ")]
    assert re.match(r"lotteryfl: not all workers ended well: host/cpu/1, host/cpu/2: task mine: .* version", line)


@pytest.mark.slow
def test_every_card_has_its_workers(
    start: Start,
    work_on: Start,
    write: Write,
    gate: Gate,
    coordinate: Coordinate,
    expect: Expect,
    machine: Machine,
) -> None:
    """Its memory is told; the bits are those of one process."""
    path = write()
    server = coordinate(path)
    workers = work_on(server.address, "all", env=machine(cards=2) | gate.env)
    assert len({gate.arrival().pid, gate.arrival().pid}) == 2
    asked = start("status", server.address)
    assert asked.exit_code() == 0, asked.stderr
    for card in (0, 1):
        line = rf"^  host/cpu{card}/1 \(cpu:{card}, 8\.6 GB, torch \S+\) was heard of \d+ s ago$"
        assert re.search(line, asked.stdout, re.MULTILINE), asked.stdout
    gate.open()
    assert workers.exit_code() == 0, workers.stderr
    assert server.ended() == ""
    assert summarise(server.run)["tickets_sha256"] == expect(path)["tickets_sha256"]
