"""A run's metrics in trackers: what arrives there is what the run directory says, once, and nothing else."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from lotteryfl.commands.report import report
from lotteryfl.commands.track import track
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.running.tracking import Tracking
from lotteryfl.server.results.reporting.data import RunData, read_run
from lotteryfl.server.results.summary import write_summary
from lotteryfl.server.results.trackers.export import export
from lotteryfl.server.results.trackers.figures import read_final, settings
from lotteryfl.server.results.trackers.onefeed import OneFeed
from lotteryfl.server.results.trackers.tracker import without_secrets
from lotteryfl.server.store.extension import lengthen
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.bench import Bench, TinyTask, simulated, tiny_experiment
from tests.support.paths import ROOT
from tests.support.processes import PROGRAM
from tests.support.told import told
from tests.support.trackerpoints import expected, of_mlflow, of_tensorboard


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


def test_options_that_are_called_secrets_have_no_value() -> None:
    flat = settings(tiny_experiment(task={"options": {"hub_token": "hf_1", "columns": 3}}))
    assert flat["task/options"] == {"hub_token": "…", "columns": 3}


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


def test_what_is_there_already_is_not_added_again(run: RunData, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (events := tmp_path / "logs").mkdir()
    for _ in range(2):
        export([run.path], "tensorboard", str(events))
    assert of_tensorboard(events / "some-run") == expected(run.path)
    simulated(tmp_path / "elsewhere" / "some-run", tiny_experiment(seed=2)).close()
    export([tmp_path / "elsewhere" / "some-run"], "tensorboard", str(events))
    assert of_tensorboard(events / "some-run") == expected(run.path), "another run of its name has another folder"
    assert len(list(events.iterdir())) == 2


def test_a_torn_event_file_is_gone_on_with(run: RunData, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    export([run.path], "tensorboard", str(tmp_path / "logs"))
    (file,) = (tmp_path / "logs" / "some-run").iterdir()
    file.write_bytes(file.read_bytes()[:-300])  # as a power cut leaves it
    assert 0 < of_tensorboard(tmp_path / "logs" / "some-run").total() < expected(run.path).total()
    export([run.path], "tensorboard", str(tmp_path / "logs"))
    assert of_tensorboard(tmp_path / "logs" / "some-run") == expected(run.path)


def test_a_run_directory_is_no_folder_of_events(run: RunData, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    before = set(run.path.iterdir())
    export([run.path], "tensorboard", str(run.path.parent))
    assert {file.name for file in set(run.path.iterdir()) - before} == {"logs"}
    (folder,) = tmp_path.glob("some-run-*")
    assert of_tensorboard(folder) == expected(run.path)


def test_rounds_after_a_longer_runs_last_measuring_are_another_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    bench = Bench(tmp_path / "run", tiny_experiment(), TinyTask()).finish()
    export([bench.path], "tensorboard", str(tmp_path / "logs"))
    before = expected(bench.path)
    bench.close()
    with RunDirectory(bench.path) as directory:
        lengthen(directory, 4)
    bench.restart().finish().close()
    export([bench.path], "tensorboard", str(tmp_path / "logs"))
    assert of_tensorboard(tmp_path / "logs" / "run") == before
    (longer,) = (tmp_path / "logs").glob("run-*")
    assert of_tensorboard(longer) == expected(bench.path) > before


def test_mlflow_gets_a_round_once(run: RunData, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for _ in range(2):
        export([run.path], "mlflow", uri)
    assert of_mlflow(uri, "some-run") == expected(run.path)


def test_wandb_gets_a_round_once_also_where_it_cannot_be_asked(run: RunData, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([PROGRAM, "report", str(run.path), "--wandb", "project"], cwd=tmp_path, env=env, check=True)
        time.sleep(1)  # its folders are called after the second
    sizes = [file.stat().st_size for file in sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))]
    assert len(sizes) == 2
    assert sizes[1] < sizes[0] - 500, "the second has no rounds"


def test_what_privacy_keeps_back_is_not_told(run: RunData, tmp_path: Path) -> None:
    assert "train_loss" in told(run.path)[1]
    private = {"noise": "client", "clip_norm": 1.0}
    simulated(tmp_path / "private", tiny_experiment(privacy=private, strategy={"name": "fedavg"})).close()
    found = told(tmp_path / "private")
    assert not any("train_loss" in values for values in found.values())
    assert 0 < found[1]["privacy/epsilon"] < found[2]["privacy/epsilon"]


def test_the_end_tells_figures_and_nobodys_words(run: RunData) -> None:
    assert read_final(run.path) is None
    with RunDirectory(run.path) as directory:
        write_summary(directory)
    final = read_final(run.path)
    assert final is not None
    assert final.numbers["accuracy/personalised_last"] == run.spread([c.score_personalised for c in run.clients]).mean
    assert final.words["strategy"] == "lotteryfl"
    assert not any(name.startswith(("refused/by_worker", "refused/aside")) for name in (*final.numbers, *final.words))


def test_the_end_of_a_run_of_an_earlier_version_is_told() -> None:
    final = read_final(ROOT / "tests/fixtures/run-0.1-finished")
    assert final is not None
    assert final.numbers["left_out"] == 0
    assert final.numbers["rounds"] == 4


def test_a_password_in_a_url_is_shown_to_nobody() -> None:
    for text, shown in (
        ("http://me:secret@host:5000/x", "http://host:5000/x"),
        ("ConnectionError: 'https://me:secret@host/?token=secret' refused", "ConnectionError: 'https://host/' refused"),
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
        ("a/folder@home", "a/folder@home"),
    ):
        assert without_secrets(text) == shown
    again = Tracking(("mlflow=http://me:secret@host:5000",), 5.0)
    assert again.options() == ["--track=mlflow=http://host:5000", "--track-wait=5"]


def test_a_second_process_waits_or_is_refused(run: RunData, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    place = str(tmp_path / "logs")
    other = OneFeed(run.path, "tensorboard", place)
    assert other.begin()
    other.remember(12)
    with pytest.raises(LotteryFLError, match="another process feeds it"):
        export([run.path], "tensorboard", place)
    other.end()
    export([run.path], "tensorboard", place)
    assert other.begin()
    assert other.remembered == 12
    other.end()


def test_a_run_that_can_only_be_read_is_exported(run: RunData, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (run.path / "logs").write_text("in the way of a folder")
    export([run.path], "tensorboard", str(tmp_path / "logs"))
    assert of_tensorboard(tmp_path / "logs" / "some-run") == expected(run.path)


def test_who_asks_for_no_tracker_is_told_which_there_are(run: RunData) -> None:
    result = CliRunner().invoke(track, [str(run.path), "--to", "comet"])
    assert (
        str(result.exception)
        == "--to 'comet': expected one of tensorboard, mlflow, wandb, trackio, perhaps with =PLACE"
    )
