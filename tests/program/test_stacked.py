"""Runs whose clients train as one model: what comes of them, who fails alone, and what is refused before any trains."""

import math
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from lotteryfl.common.errors import ExperimentError, LotteryFLError, TaskError
from lotteryfl.common.experiment.experiment import validate
from lotteryfl.common.seeding import seeded
from lotteryfl.common.tasks import ClientData, load_task
from lotteryfl.common.tasks.datasets import mnist
from lotteryfl.common.tensors.file import open_file
from lotteryfl.comparing.cells import plan_cells
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.results.summary import summarise
from lotteryfl.server.rounds.longer import with_settings
from lotteryfl.server.rounds.setup import create_run
from lotteryfl.server.store.rundir import RunDirectory, inspected
from tests.support.bench import Tied, TinyTask, create, silent, simulated, tiny_experiment, tiny_mlp

STACKED = {"engine": {"stacked": 2}}
FASHION = mnist._SOURCES["fashion-mnist"].system[0]


def shared_model(run: RunDirectory) -> dict[str, Tensor]:
    return dict(open_file(run.model_path(run.model_round)))


@pytest.mark.parametrize(
    "strategy",
    [
        {"name": "lotteryfl"},
        {"name": "fedprox", "proximal": 0.1},
        {"name": "lg-fedavg", "personal": ["2.*"]},
        {"name": "sub-fedavg"},
        {"name": "feddst", "readjust_every": 1},
        {"name": "fedselect"},
        {"name": "ssfl"},
        {"name": "standalone"},
    ],
    ids=lambda strategy: strategy["name"],
)
def test_a_strategy_comes_to_what_it_does_with_clients_one_by_one(strategy: dict[str, Any], tmp_path: Path) -> None:
    changes = {"strategy": strategy, "clients_per_round": 4, "training": {"epochs": 2}}
    with (
        simulated(tmp_path / "plain", tiny_experiment(**changes)) as plain,
        simulated(tmp_path / "stacked", tiny_experiment(**changes, engine={"stacked": 3})) as stacked,
    ):
        expected, found = summarise(plain), summarise(stacked)
        assert found["engine"] == "stacked 3"
        assert "engine" not in expected
        torch.testing.assert_close(shared_model(stacked), shared_model(plain), rtol=1e-4, atol=1e-5)
        assert found["accuracy"] == pytest.approx(expected["accuracy"])
        assert found["density"] == pytest.approx(expected["density"])
        stacks = stacked.database.select("SELECT client, stack FROM assignments WHERE round = 2 ORDER BY client")
        assert dict(stacks) == {0: 0, 1: 0, 2: 0, 3: 3}


def accuracies(folder: Path, stacked: int, table: dict[str, Any]) -> tuple[float, float]:
    """Run an experiment of a built-in task and return mean accuracies, downloaded and personalised."""
    experiment = validate({**table, "engine": {"stacked": stacked}}, "test")
    with create_run(folder / str(stacked), experiment, ()) as run:
        Simulation(run, load_task(experiment), torch.device("cpu")).run(silent)
        found = summarise(run)["accuracy"]
    return found["downloaded_last"], found["personalised_last"]


def require_as_accurate(folder: Path, table: dict[str, Any], noise: float) -> None:
    plain, stacked = (accuracies(folder, rows, table) for rows in (0, 8))
    assert stacked == pytest.approx(plain, abs=noise)
    assert plain[1] > 0.8, "it has learnt something"


def test_digits_are_told_as_well(tmp_path: Path) -> None:
    table = {"rounds": 3, "clients": 8, "clients_per_round": 8, "strategy": {"accuracy_threshold": 0.0}}
    require_as_accurate(tmp_path, table, noise=0.02)


@pytest.mark.slow
@pytest.mark.skipif(not FASHION.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_clothes_are_told_as_well(tmp_path: Path) -> None:
    """With longer steps, or fewer examples, rounding alone, as of another number of threads, moves a run by 0.04."""
    table = {
        "rounds": 8,
        "task": {"name": "fashion-mnist", "model": "cnn"},
        "partition": {"examples_per_class": 60},
        "training": {"lr": 0.003},
    }
    require_as_accurate(tmp_path, table, noise=0.03)


FOUR: dict[str, Any] = {"engine": {"stacked": 4}, "clients_per_round": 4, "strategy": {"name": "standalone"}}


def assert_same_of_others(spared: RunDirectory, whole: RunDirectory, but: int) -> None:
    """Check that all but one came to something, and to the same bits in both runs."""
    files = "SELECT client, ticket FROM clients WHERE ticket != ''"
    everyone, others = dict(whole.database.select(files)), dict(spared.database.select(files))
    assert sorted(others) == [client for client in range(4) if client != but]
    for client, file in others.items():
        ours, theirs = open_file(spared.path / file), open_file(whole.path / everyone[client])
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def reason_of(run: RunDirectory, client: int) -> str:
    """Return why a client sat the first round out."""
    reasons = "SELECT reason FROM assignments WHERE round = 1 AND client = ?"
    (reason,) = run.database.select(reasons, client).fetchone()
    return str(reason)


class Sparing(TinyTask):
    """Has nothing for client 1."""

    def client_data(self, client: int) -> ClientData:
        if client == 1:
            raise TaskError("task tiny: client 1 has lost its data")
        return super().client_data(client)


class Listed(Dataset[Any]):
    """Examples that are read one by one."""

    def __init__(self, data: Dataset[Any]) -> None:
        self._data: Any = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Any:
        return self._data[index]


class Mixed(TinyTask):
    """Client 1 alone has training data that are read one by one."""

    def client_data(self, client: int) -> ClientData:
        data = super().client_data(client)
        return ClientData(Listed(data.train), data.validation, data.test) if client == 1 else data


class Cutting(nn.Sequential):
    """Takes inputs of any width from 6."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits."""
        outputs: Tensor = super().forward(inputs[:, :6])
        return outputs


class Wider(TinyTask):
    """Client 1's inputs have a column more."""

    def __init__(self) -> None:
        super().__init__(lambda: Cutting(*tiny_mlp().children()))

    def client_data(self, client: int) -> ClientData:
        given = super().client_data(client)
        if client != 1:
            return given
        data: Any = given
        parts = (data.train.tensors, data.validation.tensors, data.test.tensors)
        return ClientData(*(TensorDataset(F.pad(inputs, (0, 1)), labels) for inputs, labels in parts))


class Augmenting(TinyTask):
    """Its augmentation does not take what client 1 has from its ninth example on."""

    def client_data(self, client: int) -> ClientData:
        data = super().client_data(client)
        if client == 1:
            inputs: Tensor = data.train[8:][0]
            inputs.fill_(math.nan)
        return data

    def augment(self, batch: Any, _generator: torch.Generator) -> Any:
        if batch[0].isnan().any():
            raise ArithmeticError("no number")
        return batch


class Whole(Augmenting):
    """Augments what all can take."""

    def client_data(self, client: int) -> ClientData:
        return TinyTask.client_data(self, client)


@pytest.mark.parametrize(
    ("task", "unharmed", "says"),
    [
        (Sparing(), TinyTask(), r"task tiny: client 1 has lost its data"),
        (Mixed(), TinyTask(), r"engine\.stacked: takes data that are tensors"),
        (Wider(), TinyTask(), r"engine\.stacked: examples of \(\(\(7,\), .*"),
        (Augmenting(), Whole(), r"client 1 of task tiny: ArithmeticError at test_stacked\.py:\d+: no number"),
    ],
    ids=lambda task: type(task).__name__ if isinstance(task, TinyTask) else "",
)
def test_who_fails_of_a_stack_leaves_the_others_their_bits(
    task: TinyTask, unharmed: TinyTask, says: str, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {**FOUR, "round": {"max_attempts": 1}}
    with (
        simulated(tmp_path / "whole", tiny_experiment(**changes), unharmed) as whole,
        simulated(tmp_path / "spared", tiny_experiment(**changes), task) as spared,
    ):
        assert_same_of_others(spared, whole, but=1)
        assert re.match(says, reason_of(spared, 1))


class Unasked(nn.Sequential):
    """Draws from a generator of everybody's."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits."""
        outputs: Tensor = super().forward(inputs * (1 + random.random()))  # noqa: S311 - no secret
        return outputs


class Drawing(TinyTask):
    """Has nothing for some; its model and its augmentation draw from generators of everybody's."""

    def __init__(self, *lost: int) -> None:
        super().__init__(lambda: Unasked(*tiny_mlp().children()))
        self._lost = lost

    def client_data(self, client: int) -> ClientData:
        if client in self._lost:
            raise TaskError(f"task tiny: client {client} has lost its data")
        return super().client_data(client)

    def augment(self, batch: Any, _generator: torch.Generator) -> Any:
        return (batch[0] + torch.rand_like(batch[0]) + np.random.rand(), batch[1])


@pytest.mark.parametrize("accumulate", [1, 6])
@pytest.mark.parametrize("lost", [0, 3])
def test_what_is_drawn_unasked_depends_neither_on_what_was_before_nor_on_who_is_there(
    lost: int, accumulate: int, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {**FOUR, "training": {"epochs": 3, "batch_size": 2, "accumulate": accumulate}}
    losses = "SELECT client, phase, loss FROM metrics WHERE round = 1"
    with (
        simulated(tmp_path / "whole", tiny_experiment(**changes), Drawing()) as whole,
        seeded(9),
        simulated(tmp_path / "spared", tiny_experiment(**changes), Drawing(lost)) as spared,
    ):
        assert_same_of_others(spared, whole, but=lost)
        assert set(spared.database.select(losses)) < set(whole.database.select(losses))


class Words(TinyTask):
    """Of indices; who is beyond has one too large in its ninth example, where nobody looks before training."""

    def __init__(self, *beyond: int) -> None:
        super().__init__(lambda: nn.Sequential(nn.Embedding(4, 6), nn.Flatten(), nn.Linear(36, 3)))
        self._beyond = beyond

    def client_data(self, client: int) -> ClientData:
        data: Any = super().client_data(client)
        parts = [(part.tensors[0].gt(0).long(), part.tensors[1]) for part in (data.train, data.validation, data.test)]
        if client in self._beyond:
            parts[0][0][8:] = 4
        return ClientData(*(TensorDataset(*part) for part in parts))


@pytest.mark.parametrize("beyond", [1, 3])
def test_who_fails_at_a_step_of_all_is_found_by_the_last_attempt(beyond: int, tmp_path: Path) -> None:
    changes: dict[str, Any] = {**FOUR, "round": {"max_attempts": 2}}
    with (
        simulated(tmp_path / "whole", tiny_experiment(**changes), Words()) as whole,
        simulated(tmp_path / "spared", tiny_experiment(**changes), Words(beyond)) as spared,
    ):
        assert_same_of_others(spared, whole, but=beyond)
        assert reason_of(spared, beyond).startswith(f"client {beyond} of task tiny: IndexError at ")


def test_a_step_that_fails_for_all_names_them_all(tmp_path: Path) -> None:
    changes: dict[str, Any] = {**FOUR, "round": {"max_attempts": 1}}
    said = r"one of the stacked clients 0, 1, 2, 3 of task tiny: IndexError at "
    with pytest.raises(LotteryFLError, match=said):
        simulated(tmp_path / "run", tiny_experiment(**changes), Words(3))


class Reading(TinyTask):
    """Its training data are no tensors in memory."""

    def client_data(self, client: int) -> ClientData:
        data = super().client_data(client)
        return ClientData(Listed(data.train), data.validation, data.test)


class Deciding(nn.Sequential):
    """Looks at the values that go through it."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits."""
        outputs: Tensor = super().forward(inputs if inputs.sum() > 0 else -inputs)
        return outputs


@pytest.mark.parametrize(
    ("task", "refused"),
    [
        (Reading(), r"engine\.stacked: takes data that are tensors in memory"),
        (TinyTask(lambda: Deciding(nn.Linear(6, 3))), r"engine\.stacked: Deciding cannot be trained as many models"),
    ],
    ids=["data", "model"],
)
def test_what_cannot_be_stacked_ends_the_run_before_anybody_trains(
    task: TinyTask, refused: str, tmp_path: Path
) -> None:
    with pytest.raises(ExperimentError, match=refused):
        simulated(tmp_path / "run", tiny_experiment(**STACKED), task)
    with inspected(tmp_path / "run") as run:
        assert run.database.select("SELECT count(*) FROM results").fetchone() == (0,)


def test_batch_norm_is_refused_when_a_run_is_set_up(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"engine\.stacked: the model's 'norm' is a BatchNorm1d"):
        create(tmp_path / "run", tiny_experiment(**STACKED), TinyTask(Tied))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"privacy": {"dp_sgd": True}}, r"privacy\.dp_sgd = True: must be False with engine\.stacked"),
        ({"training": {"compile": True}}, r"training\.compile = True: must be False with engine\.stacked"),
        ({"training": {"channels_last": True}}, r"training\.channels_last = True: must be False with engine\.stacked"),
        ({"training": {"optimizer": "Muon"}}, r"training\.optimizer = 'Muon': must be one of sgd, adam, adamw, SGD"),
    ],
    ids=lambda changes: next(iter(changes)) if isinstance(changes, dict) else "",
)
def test_an_experiment_that_cannot_be_stacked_is_refused_when_it_is_read(changes: dict[str, Any], refused: str) -> None:
    validate(changes, "plain")
    with pytest.raises(ExperimentError, match=refused):
        validate({**changes, **STACKED}, "stacked")


def test_a_run_keeps_the_engine_that_it_began_with(tmp_path: Path) -> None:
    with (
        create(tmp_path / "run", tiny_experiment(), TinyTask()) as run,
        pytest.raises(LotteryFLError, match=r"--set engine\.stacked = 2: the run has 0"),
    ):
        with_settings(run, ["engine.stacked=2"])


def test_two_engines_are_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "experiment.toml"
    path.write_text("")
    both = ["b:engine.stacked=4"]
    with pytest.raises(ExperimentError, match=r"engine\.stacked = 4 of b: a has 0, and what is trained by two engines"):
        plan_cells(path, "a=fedavg,b=fedavg", "0", both, tmp_path / "out")
    plan_cells(path, "a=fedavg,b=lotteryfl", "0", ["engine.stacked=4"], tmp_path / "out")
