"""A run's metrics in trackers: what arrives there is what the run directory says."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from lotteryfl.commands.report import report
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.server.results.reporting.data import RunData, read_run
from lotteryfl.server.results.trackers.export import export
from lotteryfl.server.results.trackers.figures import settings
from tests.support.bench import simulated, tiny_experiment
from tests.support.told import told


@pytest.fixture
def run(tmp_path: Path) -> RunData:
    simulated(tmp_path / "some-run", tiny_experiment(access={"workers": {"gpu": "0-3"}})).close()
    return read_run(tmp_path / "some-run")


def test_every_round_has_its_figures(run: RunData) -> None:
    found = told(run.path)
    assert list(found) == [1, 2, 3]
    assert found[2]["accuracy/personalised"] == run.rounds.personalised[1]
    assert found[3]["megabytes_so_far"] == run.sent[2]
    assert found[1]["bytes/up"] == run.rounds.up[0]


def test_settings_are_flat_and_tell_nobodys_name(run: RunData) -> None:
    flat = settings(run.experiment)
    assert (flat["rounds"], flat["strategy/name"], flat["training/batch_size"]) == (2, "lotteryfl", 4)
    assert not any("gpu" in f"{key}{value}" for key, value in flat.items())


def test_tensorboard_reads_what_was_written(run: RunData, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = CliRunner().invoke(report, [str(run.path), "--tensorboard", str(tmp_path / "logs")])
    assert result.exit_code == 0, result.output
    assert not Path("report").exists(), "a report that nobody asked for"
    events = EventAccumulator(str(tmp_path / "logs" / "some-run"))
    events.Reload()
    for name in told(run.path)[1]:
        read = [(event.step, event.value) for event in events.Scalars(name)]
        assert read == [(step, pytest.approx(values[name], rel=1e-6)) for step, values in told(run.path).items()]


def test_mlflow_has_what_was_logged(run: RunData, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    export([run.path], "mlflow", uri)
    client = mlflow.tracking.MlflowClient(uri)
    (found,) = client.search_runs([client.get_experiment_by_name("lotteryfl digits").experiment_id])
    assert found.info.run_name == "some-run"
    assert found.data.params["strategy/name"] == "lotteryfl"
    assert found.data.metrics["accuracy/personalised"] == pytest.approx(run.rounds.personalised[-1])


def test_wandb_takes_the_runs(run: RunData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    export([run.path], "wandb", "project")
    assert list((tmp_path / "wandb").glob("offline-run-*"))


@pytest.mark.parametrize(
    ("name", "module"),
    [("tensorboard", "tensorboard"), ("mlflow", "mlflow"), ("wandb", "wandb"), ("trackio", "trackio")],
)
def test_what_is_not_installed_is_named(
    run: RunData, name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(LotteryFLError, match=rf"--{name} needs {name}: pip install 'lotteryfl\[{name}\]'"):
        export([run.path], name, str(tmp_path / "logs"))
