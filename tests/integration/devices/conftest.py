"""Workers of one command on several devices."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.coordinatorthread import CoordinatorThread
from tests.support.paths import ROOT
from tests.support.processes import Gate, Process
from tests.support.runs import GATED_TASK, Start

Machine = Callable[..., dict[str, str]]
Child = Callable[[CoordinatorThread], tuple[Process, socket.socket]]


@pytest.fixture
def machine() -> Machine:
    """Return the environment of a process on another machine: `machine(cards=2)`, `machine(cores=1)`."""

    def machine_(**there: int) -> dict[str, str]:
        path = os.pathsep.join((str(ROOT / "tests/support/machine"), str(ROOT)))
        return {"PYTHONPATH": path} | {name.upper(): str(number) for name, number in there.items()}

    return machine_


@pytest.fixture
def work_on(start: Start) -> Start:
    """Start workers on devices: `work_on(address, "cpu", "--per-device=2", env={…})`."""

    def work_on_(
        address: str, devices: str, *options: str, task: Path = GATED_TASK, env: dict[str, str] | None = None
    ) -> Process:
        arguments = (f"--coordinator={address}", f"--task={task}", f"--devices={devices}", "--name=host", *options)
        return start("work", *arguments, env=env)

    return work_on_


@pytest.fixture
def child(start: Start, gate: Gate) -> Iterator[Child]:
    """Start a worker as the only one of this process, and return it with our end of the line."""
    with ExitStack() as stack:

        def child_(server: CoordinatorThread) -> tuple[Process, socket.socket]:
            ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
            arguments = (f"--coordinator={server.address}", f"--task={server.task}", f"--parent={theirs.fileno()}")
            worker = start("work", *arguments, env=gate.env, descriptors=(theirs.fileno(),))
            return worker, ours

        yield child_
