"""A run of a task with an objective of its own: its score and values stand wherever accuracy would."""

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lotteryfl.commands.compare import _conclude
from lotteryfl.commands.report import report
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.comparing.cells import Cell
from lotteryfl.describe import describe_round
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.finaltable import final_table
from lotteryfl.server.results.reporting.clientpictures import draw_clients
from lotteryfl.server.results.reporting.curves import draw_accuracy, draw_values
from lotteryfl.server.results.reporting.data import read_run
from lotteryfl.server.results.reporting.figures import figures, table, target_accuracies, values_table
from lotteryfl.server.results.reporting.groups import group_runs
from lotteryfl.server.results.spread import spread
from lotteryfl.server.results.summary import summarise, write_summary
from lotteryfl.server.results.verify import verify
from lotteryfl.server.results.view import open_run
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.status import status_of
from lotteryfl.server.store.summaries import client_summaries
from tests.support.bench import simulated, tiny_experiment
from tests.support.scored import MAE, R2, ScoredBench, ScoredTask, scored
from tests.support.told import told

MEAN_MAE = "SELECT avg(value) FROM measures WHERE name = 'mae' AND phase = 'personalised' GROUP BY round ORDER BY round"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whoever changes it makes a copy."""
    path = tmp_path_factory.mktemp("scored") / "run"
    bench = scored(path, MAE, rounds=3)
    write_summary(bench.run)
    bench.close()
    return path


@pytest.fixture
def run(path: Path) -> Iterator[RunDirectory]:
    with RunDirectory(path, read_only=True) as run:
        yield run


def test_the_summary_has_the_score_with_its_direction_and_all_values(run: RunDirectory) -> None:
    summary = json.loads((run.path / "summary.json").read_text())
    assert summary == summarise(run)
    assert "accuracy" not in summary
    score = summary["score"]
    clients = [client.score_personalised for client in client_summaries(run.database, 4)]
    by_round = [mean for (mean,) in run.database.select(MEAN_MAE)]
    assert (score["name"], score["higher_is_better"]) == ("mae", False)
    assert score["personalised_last"] == pytest.approx(np.mean(clients))
    assert score["personalised_worst_decile"] == max(clients)
    assert score["personalised_best"] == pytest.approx(min(by_round))
    for values in summary["values"].values():
        assert list(values) == ["loss", "mae", "r2"]
        assert values["r2"] == pytest.approx(1 - values["mae"] / 2)
    assert summary["values"]["personalised"]["mae"] == pytest.approx(score["personalised_last"])


def test_the_worst_tenth_is_on_the_bad_side() -> None:
    values = [float(value) for value in range(25)]
    assert spread(values).worst_decile == 1
    assert spread(values, higher_is_better=False).worst_decile == 23


def test_tables_and_the_progress_line_name_score_and_values(run: RunDirectory) -> None:
    summary = summarise(run)
    text = final_table(run)
    assert "accuracy" not in text
    assert re.search(r"^client +mae downloaded +personalised +density", text)
    values = summary["values"]
    for name in ("mae", "r2", "loss"):
        means = (f"{values[phase][name]:.4g}" for phase in ("downloaded", "personalised"))
        assert re.search(rf"^{name} +{' +'.join(means)}$", text, re.MULTILINE)
    line = describe_round(status_of(run))
    told = (
        f"{name} {values['downloaded'][name]:.4g} downloaded, {values['personalised'][name]:.4g} personalised"
        for name in ("mae", "r2")
    )
    assert f"4 clients, {', '.join(told)}, density" in line


def test_tables_for_notebooks_have_a_column_for_each_value(path: Path, run: RunDirectory) -> None:
    with open_run(path) as view:
        rounds, metrics = view.rounds(), view.metrics()
    assert rounds["mae_personalised"].tolist() == [mean for (mean,) in run.database.select(MEAN_MAE)]
    assert not [column for column in (*rounds, *metrics) if "accuracy" in column or "recall" in column]
    assert metrics["r2"].tolist() == pytest.approx((1 - metrics["mae"] / 2).tolist())
    ((rows,),) = run.database.select("SELECT count(*) FROM metrics")
    assert (len(metrics), set(metrics["phase"])) == (rows, {"validation", "downloaded", "personalised"})


def test_trackers_get_every_value(path: Path, run: RunDirectory) -> None:
    last = list(told(path).values())[-1]
    values = summarise(run)["values"]
    for phase in ("downloaded", "personalised"):
        assert {name: last[f"{name}/{phase}"] for name in values[phase]} == pytest.approx(values[phase])


def test_less_is_better_in_figures_and_pictures(path: Path) -> None:
    run = read_run(path)
    (group,) = groups = group_runs([run])
    targets = target_accuracies(groups)
    best = run.rounds.personalised.min()
    assert targets.personalised == pytest.approx(best / 0.9)
    found = figures(group, targets)
    assert (found.personalised_best.mean, found.worst_decile.mean) == (best, run.worst_decile())
    assert found.megabytes_to_personalised is not None
    assert run.megabytes_to(best - 1e-6, run.rounds.personalised) == float("inf")
    assert run.megabytes_to(float(run.rounds.personalised.max()), run.rounds.personalised) == run.sent[0]
    assert found.as_json()["values"] == {
        name: {
            phase: {"mean": series[-1], "std": 0.0}
            for phase, series in zip(("downloaded", "personalised"), run.rounds.values[name], strict=True)
        }
        for name in ("mae", "loss", "r2")
    }
    assert table([found], targets, "simple").startswith("mae (lower is better) ")
    assert re.search(rf"^ +r2 +{run.rounds.values['r2'][1][-1]:.4g} ", values_table([found], "simple"), re.MULTILINE)
    assert draw_accuracy(groups).axes[0].get_ylabel() == "mae"
    (clients,) = draw_clients(groups).axes
    low, high = clients.get_xlim()
    assert low <= min(c.score_personalised for c in run.clients)
    assert high >= max(c.score_downloaded for c in run.clients) > 1
    values = draw_values(groups)
    assert values is not None
    assert [axes.get_ylabel() for axes in values.axes] == ["loss", "r2"]


def test_the_page_has_no_accuracy(path: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(report, [str(path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    body = re.sub(r"<details>.*|base64,[^\"]*", "", page, flags=re.DOTALL)
    assert "ccurac" not in body
    assert {"score.png", "values.png"} < {file.name for file in (tmp_path / "out").iterdir()}


def test_a_comparison_names_the_score_and_has_all_values(path: Path, run: RunDirectory, tmp_path: Path) -> None:
    printed = _conclude([Cell("mine", 0, path / "experiment.toml", (), path)], tmp_path)
    found, summary = json.loads((tmp_path / "compare.json").read_text()), summarise(run)
    assert found["score"] == {"name": "mae", "higher_is_better": False}
    assert "target_accuracies" not in found
    (row,) = found["strategies"]
    assert row["personalised_last"]["mean"] == pytest.approx(summary["score"]["personalised_last"])
    assert row["values"]["r2"]["downloaded"]["mean"] == pytest.approx(summary["values"]["downloaded"]["r2"])
    for text in (printed, (tmp_path / "compare.md").read_text()):
        assert "mae (lower is better)" in text
        assert f"{summary['values']['personalised']['r2']:.4g}" in text


def test_runs_of_different_scores_are_not_compared(path: Path, tmp_path: Path) -> None:
    simulated(tmp_path / "other", tiny_experiment(strategy={"name": "fedavg"})).close()
    groups = group_runs([read_run(path), read_run(tmp_path / "other")])
    with pytest.raises(
        LotteryFLError, match=r"other: is judged by its accuracy, and .*run by its mae: expected runs of"
    ):
        target_accuracies(groups)


def test_verify_misses_a_score_and_a_row_that_a_value_belongs_to(tmp_path: Path) -> None:
    bench = scored(tmp_path / "run", R2, rounds=1)
    bench.close()
    assert verify(tmp_path / "run").problems == 0
    for query, problem in (
        (
            "DELETE FROM measures WHERE (round, client, phase, name) = (2, 3, 'downloaded', 'r2')",
            "metrics: round 2, client 3, phase downloaded: 'r2', the run's score, is not among its measures",
        ),
        (
            "INSERT INTO measures VALUES (2, 3, 'global', 'r2', 0.5)",
            "measures: round 2, client 3, phase global: refers to a row that is not there",
        ),
    ):
        with closing(sqlite3.connect(tmp_path / "run" / "run.db")) as database, database:
            database.execute(query)
        assert f"problem: run.db: {problem}" in list(verify(tmp_path / "run").lines())


def test_a_metric_that_one_client_alone_sends_is_not_shown(tmp_path: Path) -> None:
    bench = ScoredBench(tmp_path / "run", tiny_experiment(rounds=1), ScoredTask(R2))
    worker = bench.register()
    work = bench.take(worker)
    answer = bench.do(work)
    for phase in (
        answer.result.metrics.validation,
        answer.result.metrics.downloaded,
        answer.result.metrics.personalised,
    ):
        phase.values["of_its_own"] = 1.0
    assert bench.submit(worker, answer).verdict == pb.SubmitReply.ACCEPTED
    bench.finish()
    bench.close()
    assert list(read_run(tmp_path / "run").rounds.values) == ["r2", "loss", "mae"]
    with open_run(tmp_path / "run") as view:
        assert "of_its_own_downloaded" not in view.rounds()
