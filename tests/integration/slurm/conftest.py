"""One cluster for all tests, and experiments that are launched on it."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Gate, Process
from tests.support.runs import Start, Write
from tests.support.slurmcluster import MISSING, Cluster

Launch = Callable[..., Process]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All here is slow, and needs Slurm."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            if MISSING:
                item.add_marker(pytest.mark.skip(reason=f"without Slurm's {MISSING}: `make test-slurm` installs it"))


@pytest.fixture(scope="package")
def _cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, Cluster(Path(folder)) as cluster:
        yield cluster


@pytest.fixture
def cluster(_cluster: Cluster) -> Iterator[Cluster]:
    """Two idle nodes."""
    yield _cluster
    _cluster.clear()


@pytest.fixture
def experiment(write: Write) -> Callable[..., Path]:
    """Write an experiment that is launched on the cluster: `experiment(nodes=2, …)`, with settings of Slurm."""

    def experiment_(**settings: Any) -> Path:
        program = f"{sys.executable} -P -m lotteryfl"
        return write(launch={"program": program, "slurm": {"ask_seconds": 1, **settings}})

    return experiment_


@pytest.fixture
def launch(start: Start, cluster: Cluster, gate: Gate) -> Launch:
    """Call `lotteryfl launch slurm …` for the cluster; its workers come to the gate."""

    def launch_(*arguments: object, gated: bool = True) -> Process:
        return start("launch", "slurm", *arguments, env=cluster.env | (gate.env if gated else {}))

    return launch_
