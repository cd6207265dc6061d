"""What all tests share: one torch thread, hypothesis without deadlines, and runs on a tiny task."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.server.results.summary import write_summary
from lotteryfl.server.strategies import STRATEGIES
from tests.support.bench import Bench, TinyTask, simulated, tiny_experiment
from tests.support.libraries import HAS_ALL, let_torchvision_be_imported

# A busy machine is no failure.
settings.register_profile("lotteryfl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lotteryfl")

if HAS_ALL:
    let_torchvision_be_imported()  # before torchmetrics does, which test files import at their top

Drive = Callable[..., Bench]


@pytest.fixture(scope="session", autouse=True)
def _one_import_name() -> Iterator[None]:
    """The four folders are imported as lotteryfl.… alone: under its bare name a module would be loaded twice."""
    yield
    bare = {name for name in sys.modules if name.partition(".")[0] in ("client", "common", "protos", "server")}
    assert not bare, f"imported under bare names: {sorted(bare)}"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def own_strategies() -> Iterator[None]:
    """Strategies of one's own may be added: they are gone when the test has ended."""
    before = dict(STRATEGIES)
    yield
    STRATEGIES.clear()
    STRATEGIES.update(before)


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    """Open runs by hand: `drive(experiment, task, name)`; all are closed in the end."""
    with ExitStack() as stack:

        def open_(
            experiment: Experiment | None = None,
            task: TinyTask | None = None,
            name: str = "run",
            *,
            broadcasts: bool = False,
        ) -> Bench:
            bench = Bench(tmp_path / name, experiment or tiny_experiment(), task or TinyTask(), broadcasts=broadcasts)
            stack.callback(bench.close)
            return bench

        yield open_


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("finished") / "run"
    with simulated(path, tiny_experiment()) as run:
        write_summary(run)
    return path


@pytest.fixture
def finished_run(_finished: Path, tmp_path: Path) -> Path:
    """A finished run to damage: 4 clients, 2 rounds of 3 and the final one of all."""
    return Path(shutil.copytree(_finished, tmp_path / "run"))
