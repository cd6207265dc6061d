"""A cluster for all of these tests, and launches that are taken down with them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.conftest import expect, gate, start, write  # noqa: F401 - fixtures
from tests.support.processes import Gate, Process
from tests.support.runs import GATED_TASK, Start
from tests.support.waiting import DEADLINE

if TYPE_CHECKING:
    from tests.support.raycluster import RayCluster

Launch = Callable[..., Process]


@pytest.fixture(scope="session")
def cluster() -> "Iterator[RayCluster]":
    pytest.importorskip("ray", reason="ray is not installed: make test-ray")
    from tests.support.raycluster import RayCluster

    with RayCluster() as there:
        yield there


@pytest.fixture
def launch(cluster: "RayCluster", start: Start, gate: Gate, tmp_path: Path) -> Iterator[Launch]:  # noqa: F811
    """Launch on the cluster: `launch(path, "--detach", workers=1)`; the run is in tmp_path/run."""
    with ExitStack() as stack:

        def launch_(source: Path, *arguments: str, environment: str = "", **ray: object) -> Process:
            settings = {"address": cluster.address, "workers": 2, **ray}
            given = [f"--with=ray.{key}={value}" for key, value in settings.items()]
            run = tmp_path / "run"
            place = [] if source == run else [f"--run-dir={run}"]
            gate_ = f'--with=environment.GATE="{gate.env["GATE"]}"'
            stack.callback(lambda: start("launch", "ray", run, "--down").exit_code(2 * DEADLINE))
            return start("launch", "ray", source, *place, f"--task={GATED_TASK}", gate_, *given, *arguments)

        yield launch_
