"""The example of LoRA by peft: what travels in a round, and what is pruned."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lotteryfl.common.experiment.experiment import load
from lotteryfl.common.tasks import load_task
from lotteryfl.common.tensors.file import open_file
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.results.verify import verify
from lotteryfl.server.results.view import open_run
from lotteryfl.server.rounds.setup import create_run
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.bench import CPU, silent
from tests.support.libraries import library
from tests.support.paths import ROOT

EXAMPLE = ROOT / "examples" / "lora.py"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    """Four rounds of the example."""
    library("peft")
    library("transformers")
    experiment = load(EXAMPLE.with_suffix(".toml")).model_copy(
        update={"rounds": 4, "clients": 2, "clients_per_round": 2}
    )
    with create_run(tmp_path / "run", experiment, (str(EXAMPLE),)) as run:
        Simulation(run, load_task(experiment, (str(EXAMPLE),)), CPU).run(silent)
        yield run


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 40


@pytest.mark.extras
@pytest.mark.slow
def test_rounds_carry_adapters_and_the_head_alone(run: RunDirectory) -> None:
    names = [spec.name for spec in run.table]
    assert len(names) == 28
    assert all("lora_" in name or "classifier.modules_to_save" in name for name in names)
    assert set(open_file(run.model_path(4))) == set(names)
    assert run.table.nbytes < run.model_table.nbytes / 10
    assert verify(run.path).problems == 0
    with open_run(run.path) as view:
        traffic, density = view.assignments(), view.rounds()["density"]
        assert traffic[["bytes_up", "bytes_down"]].max().max() < 1.2 * run.table.nbytes
        assert density.iloc[-1] < 0.9
        assert all("weight" in name for name in view.masks(0))
        task = load_task(run.experiment, (str(EXAMPLE),))
        task.model().load_state_dict(view.ticket(0))
