"""Runs of tiny experiments: as processes, as a coordinator in this process, and as the oracle of their bits."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch

from lotteryfl.common.experiment.experiment import load
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.common.tasks import load_task
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.results.summary import Summary, summarise
from lotteryfl.server.rounds.setup import create_run
from lotteryfl.server.rpc.endpoint import Endpoint
from lotteryfl.server.rpc.limits import Limits
from tests.support.bench import built_in, silent
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.handworker import HandWorker
from tests.support.processes import Gate, Process
from tests.support.runs import GATED, Coordinate, Expect, Start, Write


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start processes: `start("run", path, …, env={…})`; all are ended with the test."""
    with ExitStack() as stack:

        def start_(
            *arguments: object,
            cwd: Path = tmp_path,
            env: dict[str, str] | None = None,
            descriptors: Collection[int] = (),
        ) -> Process:
            process = Process(*arguments, cwd=cwd, env=env or {}, descriptors=descriptors)
            stack.callback(process.end)
            return process

        yield start_


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write an experiment file: GATED with changes, sections key by key."""

    def write_(base: dict[str, Any] = GATED, name: str = "tiny.toml", **changes: Any) -> Path:
        table = dict(base)
        for key, value in changes.items():
            table[key] = table.get(key, {}) | value if isinstance(value, dict) else value
        path = tmp_path / name
        path.write_text(tomli_w.dumps(table))
        return path

    return write_


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as gate_:
        yield gate_


@pytest.fixture
def coordinate(tmp_path: Path) -> Iterator[Coordinate]:
    """Serve experiment files in this process: `coordinate(path)`."""
    with ExitStack() as stack:

        def coordinate_(
            path: Path,
            name: str = "served",
            endpoint: Endpoint | None = None,
            security: ChannelSecurity | None = None,
            limits: Limits | None = None,
        ) -> CoordinatorThread:
            experiment = load(path)
            run = stack.enter_context(create_run(tmp_path / name, experiment, (experiment.task.name,)))
            return stack.enter_context(CoordinatorThread(run, endpoint, security, limits))

        yield coordinate_


@pytest.fixture(scope="session")
def expect(tmp_path_factory: pytest.TempPathFactory) -> Expect:
    """Return the summary that a run of the experiment file must come to."""

    @cache
    def simulated(text: str, folder: Path) -> Summary:
        path = tmp_path_factory.mktemp("expected")
        (folder / "expected.toml").write_text(text)
        experiment = load(folder / "expected.toml")
        task = load_task(experiment, (experiment.task.name,))
        with create_run(path / "run", experiment, (experiment.task.name,)) as run:
            Simulation(run, task, torch.device("cpu"), local=built_in(experiment)).run(silent)
            return summarise(run)

    return lambda path: simulated(path.read_text(), path.parent)


@pytest.fixture
def server(coordinate: Coordinate, write: Write) -> CoordinatorThread:
    return coordinate(write())


@pytest.fixture
def worker(server: CoordinatorThread) -> HandWorker:
    return HandWorker(server)
