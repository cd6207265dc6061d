"""Workers of one command on several devices."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.processes import Process
from tests.support.runs import GATED_TASK, Start

Machine = Callable[..., dict[str, str]]


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
