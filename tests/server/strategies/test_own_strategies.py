"""A strategy of the user's own: one file, named on the command line, here the one that the documentation shows."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from click.testing import CliRunner, Result

from lotteryfl.common.errors import ExperimentError, LotteryFLError
from lotteryfl.common.tensors.file import open_file
from lotteryfl.program import program
from lotteryfl.running.opened import OpenedRun
from lotteryfl.running.owncode import OwnCode
from lotteryfl.server.results.summary import summarise
from lotteryfl.server.rounds.setup import create_run
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.strategies import STRATEGIES, add_strategies, create_strategy
from tests.support.bench import Bench, TinyTask, create, simulated, tiny_experiment
from tests.support.damage import problems
from tests.support.paths import ROOT
from tests.support.playing import W, accuracies, model, play, play_claiming, ticket

Drive = Callable[..., Bench]

DOCUMENTATION = ROOT / "docs" / "strategy-hooks.md"

GOOD = """
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies import FedAvg
from lotteryfl.server.strategies.base import Strategy

class Mine(FedAvg):
    name = "mine"
"""


pytestmark = pytest.mark.usefixtures("own_strategies")


def write(folder: Path, text: str, name: str = "my-own.py") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.fixture
def documented(tmp_path: Path) -> str:
    (block,) = re.findall(r"^```python\n(# one_shot.*?)^```$", DOCUMENTATION.read_text(encoding="utf-8"), re.M | re.S)
    return write(tmp_path, block, "one_shot.py")


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(program, [str(each) for each in arguments], standalone_mode=False)
    if isinstance(result.exception, Exception) and not isinstance(result.exception, LotteryFLError):
        raise result.exception
    return result


def test_the_documented_strategy_runs_by_its_file_alone(documented: str, tmp_path: Path) -> None:
    settings = {"name": "one-shot", "target_density": 0.25, "options": {"from_round": 2}}
    experiment = tiny_experiment(
        rounds=3,
        strategy=settings,
        task={"name": "digits", "model": "mlp"},
        partition={"examples_per_class": 5},
    )
    source, run = tmp_path / "one.toml", tmp_path / "run"
    source.write_text(tomli_w.dumps(experiment.model_dump(exclude_none=True)))
    unknown = invoke("simulate", source, "--run-dir", run)
    assert "strategy.name = 'one-shot': must be one of lotteryfl, " in str(unknown.exception)
    assert not run.exists()
    assert invoke("simulate", source, "--run-dir", run, "--strategy", documented).exit_code == 0
    with RunDirectory(run) as directory:
        assert summarise(directory)["density"]["mean"] == pytest.approx(0.25, abs=1e-4)
        assert {row.density for row in directory.database.assignments(2)} == {1.0}
        assert not any(row.plan.HasField("prune") for row in directory.database.assignments(1))
    assert problems(run) == []

    begun = tmp_path / "begun"
    create_run(begun, experiment, ()).close()
    STRATEGIES.pop("one-shot")
    ticket = tmp_path / "ticket"
    for command in (("verify", run), ("export", run, "--client=1", f"--out={ticket}"), ("simulate", begun)):
        assert "strategy.name = 'one-shot': must be" in (refused := invoke(*command)).output + str(refused.exception)
        assert invoke(*command, "--strategy", documented).exit_code == 0
        STRATEGIES.pop("one-shot")
    assert open_file(ticket)


def test_every_strategy_of_a_file_is_taken_once_and_again(tmp_path: Path) -> None:
    source = write(tmp_path, GOOD + "class Other(Mine):\n    name = 'other'\n")
    for _ in range(2):
        add_strategies(source)
    assert [name for name in STRATEGIES if name in ("mine", "other")] == ["mine", "other"]
    assert create_strategy(tiny_experiment(strategy={"name": "other"})).name == "other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace('"mine"', '"fedavg"'), "class Mine has name = 'fedavg': expected one of its own"),
        (GOOD.replace('name = "mine"', "pass"), "class Mine has name = 'fedavg': expected one of its own"),
        (GOOD.replace("(FedAvg)", "(Strategy)"), "class Mine lacks plan"),
        (
            "from lotteryfl.server.strategies import FedAvg",
            "holds no class that is a lotteryfl.server.strategies.base.Strategy",
        ),
        ("x = 1 / 0", r"import failed at .*my-own.py:1: ZeroDivisionError"),
        ("def", r"import failed at .*my-own.py:1: SyntaxError"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    source, before = write(tmp_path, text), dict(STRATEGIES)
    with pytest.raises(ExperimentError, match=f"^--strategy {source}: {message}"):
        add_strategies(source)
    assert before == STRATEGIES


@pytest.mark.parametrize(("source", "message"), [("no/such.py", "no file"), ("no_such_module", "no module")])
def test_what_is_not_there_is_named(source: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=f"--strategy {source}: there is {message}"):
        add_strategies(source)


def test_when_stopped_it_says_how_to_go_on_with_it(tmp_path: Path) -> None:
    with create(tmp_path / "run", tiny_experiment(), TinyTask()) as run:
        opened = OpenedRun(run, TinyTask(), OwnCode(("t.py",), ("my own.py",)))
        assert opened.command("run").endswith("/run --task=t.py '--strategy=my own.py'")


DRAWS = """
import random
import numpy as np
import torch
from lotteryfl.common import packedmasks
from lotteryfl.server.strategies.base import Strategy
from lotteryfl.server.strategies.ssfl import SSFL

ORDER = np.random.permutation(20).tolist()

class Drawing(SSFL):
    name = "drawing"

    def __init__(self, experiment):
        super().__init__(experiment)
        self.epochs = random.randrange(1, 4)

    def sample(self, round_):
        return sorted(random.sample(range(self.experiment.clients), self.experiment.clients_per_round))

    def plan(self, round_, client):
        plan = super().plan(round_, client)
        if not plan.measure_saliency:
            plan.train.epochs = self.epochs + ORDER[client.client] % 2 + random.randrange(2)
        return plan

    def next_masks(self, round_, table, aggregated):
        masks = super().next_masks(round_, table, aggregated)
        if masks is None:
            return None
        return {n: packedmasks.pack(torch.rand(table[n].shape) < 0.5) for n in masks}
"""


def test_what_a_strategy_draws_unasked_is_part_of_the_same_bits(tmp_path: Path) -> None:
    """Whatever was drawn in the process before; and what is drawn after is as it would have been."""
    experiment = tiny_experiment(strategy={"name": "drawing"})
    bits = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = random.getstate()
        add_strategies(write(tmp_path, DRAWS))
        with simulated(tmp_path / str(seed), experiment) as run:
            bits.append((run.database.get("model_sha256"), run.tickets_sha256(), run.shared_mask))
        assert random.getstate() == before
    assert bits[0] == bits[1]


def test_q_fedavg_weighs_by_examples_and_the_loss_on_validation_data_to_the_power_of_q(drive: Drive) -> None:
    add_strategies(str(ROOT / "examples" / "q_fedavg.py"))
    everybody: dict[str, Any] = {"clients": 4, "clients_per_round": 4}
    bench = play(drive(tiny_experiment(strategy={"name": "q-fedavg", "options": {"q": 5}}, **everybody)))
    query = "SELECT loss FROM metrics WHERE (round, phase) = (1, 'validation') ORDER BY client"
    losses = np.array([loss for (loss,) in bench.run.database.select(query)])
    sent = np.stack([ticket(bench, client)[W].numpy().astype(np.float64) for client in range(4)])
    examples = np.arange(8, 12)
    expected = np.average(sent, axis=0, weights=examples * losses**5)
    np.testing.assert_allclose(model(bench)[W].numpy(), expected, rtol=1e-6)
    assert not np.allclose(expected, np.average(sent, axis=0, weights=examples), rtol=1e-3)
    assert {row.density for row in bench.run.database.clients()} == {1.0}


def test_the_accurate_prune_more_where_the_plan_goes_by_their_accuracy(drive: Drive) -> None:
    add_strategies(str(ROOT / "examples" / "prune_accurate.py"))
    settings = {"name": "prune-the-accurate", "prune_rate": 0.2, "target_density": 0.1}
    bench = drive(tiny_experiment(strategy=settings, clients=3, clients_per_round=3, rounds=3))
    play_claiming(bench, accuracies(0.25, 0.5, 1.0))
    rows = bench.run.database.assignments(2)
    assert [row.plan.prune.rate for row in rows] == [2 * 0.25 * 0.2, 2 * 0.5 * 0.2, 2 * 1.0 * 0.2]
    play(bench)
    first, second, third = (row.density for row in bench.run.database.clients())
    assert first > second > third
