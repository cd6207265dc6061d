"""How many workers a card has is found while they work."""

import os
import re

import pytest

from lotteryfl.running.sizing import COUNTED
from tests.integration.devices.conftest import Machine
from tests.support.processes import Gate
from tests.support.runs import Coordinate, Start, Write


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_a_card_gets_one_worker_more_when_the_first_has_been_measured(
    work_on: Start, write: Write, gate: Gate, coordinate: Coordinate, machine: Machine
) -> None:
    server = coordinate(write(rounds=1, clients=6, clients_per_round=6))
    env = machine(cards=1, cores=2) | gate.env
    workers = work_on(server.address, "cpu:0", "--per-device=auto", env=env)
    for _ in range(1 + COUNTED):
        gate.arrival().let_go()
    assert len({gate.arrival().pid, gate.arrival().pid}) == 2
    gate.open()
    assert workers.exit_code() == 0, workers.stderr
    assert server.ended() == ""
    assert re.search(r"^cpu0: 2 workers$", workers.stderr, re.MULTILINE)
    ends = r"the run has finished|left; what was under work was handed back"  # by what the machine's load lets two do
    assert re.search(rf"^cpu0/2: .* host/cpu0/2: ({ends})$", workers.stderr, re.MULTILINE)
