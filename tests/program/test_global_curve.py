"""The shared model on global test data, every so many rounds: the same curve however the run was made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lotteryfl.common.errors import ExperimentError, TaskError
from lotteryfl.common.tasks import load_task
from lotteryfl.common.training.evaluation import evaluate
from lotteryfl.describe import describe_shared
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.results.finaltable import final_table
from lotteryfl.server.results.reporting.curves import draw_global
from lotteryfl.server.results.reporting.data import read_run
from lotteryfl.server.results.reporting.figures import figures, table, target_accuracies
from lotteryfl.server.results.reporting.groups import group_runs
from lotteryfl.server.results.summary import summarise, write_summary
from lotteryfl.server.results.verify import verify
from lotteryfl.server.results.view import open_run
from lotteryfl.server.rounds.longer import with_settings
from lotteryfl.server.rounds.work import Step
from lotteryfl.server.store.extension import lengthen
from lotteryfl.server.store.globalcurve import global_curve
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.status import status_of
from lotteryfl.server.store.summaries import round_summaries
from tests.support.bench import CPU, Bench, TinyTask, create, simulated, tiny_experiment
from tests.support.objectivetasks import ObjectiveTask
from tests.support.told import told

Drive = Callable[..., Bench]


def global_data(examples: int) -> TensorDataset:
    inputs = torch.randn(examples, 6, generator=torch.Generator().manual_seed(99))
    return TensorDataset(inputs, inputs[:, :3].argmax(dim=1))


class Forgetful(nn.Module):
    """Counts its forwards beside its tensors, and a weight in them depends on that."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 3))
        self.calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = self.layers(inputs) * (1 + 0.01 * self.calls)
        return logits


class GlobalTask(TinyTask):
    def global_test(self, examples: int) -> TensorDataset:
        return global_data(min(examples, 60))


def every(number: int, **changes: Any) -> Any:
    evaluation = {"global_every": number, **changes.pop("evaluation", {})}
    return tiny_experiment(evaluation=evaluation, training={"lr": 0.3}, **changes)


def worth(run: RunDirectory, round_: int) -> float:
    model = TinyTask().model()
    model.load_state_dict(run.global_model(round_))
    return evaluate(model, global_data(60), batch_size=256, device=CPU).loss


@pytest.mark.parametrize("wire_dtype", ["float32", "int8"])
def test_a_point_is_the_whole_shared_model_as_it_was_after_its_round(drive: Drive, wire_dtype: str) -> None:
    """Not as its clients had it, under their masks and narrowed."""
    bench = drive(every(2, rounds=5, wire_dtype=wire_dtype), GlobalTask())
    expected = {0: worth(bench.run, 0)}
    while (step := bench.coordinator.advance()) is not Step.ENDED:
        bench.do_all(bench.register())
        if step is Step.COMMIT:
            bench.commit()
            expected[bench.run.model_round] = worth(bench.run, bench.run.model_round)
    curve = global_curve(bench.run.database)
    assert [point.round for point in curve] == [0, 2, 4, 5]
    assert {point.examples for point in curve} == {60}
    assert [point.values["loss"] for point in curve] == pytest.approx([expected[point.round] for point in curve])
    assert list(curve[0].values) == ["accuracy", "balanced_accuracy", "loss", *list(curve[0].values)[3:]]


def test_the_curve_changes_nothing_of_what_is_learned(tmp_path: Path) -> None:
    """Not of a model that remembers what it was used for, either."""

    def bits(name: str, **evaluation: int) -> tuple[str, str]:
        experiment = tiny_experiment(evaluation=evaluation, training={"lr": 0.3})
        with simulated(tmp_path / name, experiment, GlobalTask(Forgetful)) as run:
            return run.database.get("model_sha256"), run.tickets_sha256()

    assert bits("measured", global_every=1) == bits("plain")


class StoppedError(Exception):
    pass


def test_stopped_after_every_step_the_curve_is_the_same(tmp_path: Path) -> None:
    experiment = every(1)
    with simulated(tmp_path / "undisturbed", experiment, GlobalTask()) as run:
        expected = summarise(run)
    create(tmp_path / "run", experiment, GlobalTask()).close()
    stops = looks = 0

    def stop(status: pb.RunStatus) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise StoppedError

    while True:
        looks = 0
        with RunDirectory(tmp_path / "run") as run:
            try:
                Simulation(run, GlobalTask(), CPU).run(stop)
            except StoppedError:
                stops += 1
                continue
            assert summarise(run) == expected
            break
    assert stops > 6


def test_a_longer_run_has_the_curve_of_one_begun_so(drive: Drive, tmp_path: Path) -> None:
    bench = drive(every(3, rounds=2), GlobalTask()).finish()
    assert [point.round for point in global_curve(bench.run.database)] == [0, 2]
    bench.close()
    with RunDirectory(bench.path) as run:
        lengthen(run, with_settings(run, ["rounds=5"]).rounds)
    bench.restart().finish()
    with simulated(tmp_path / "whole", every(3, rounds=5), GlobalTask()) as run:
        assert global_curve(bench.run.database) == global_curve(run.database)
        assert [point.round for point in global_curve(run.database)] == [0, 3, 5]


def test_training_that_ends_early_ends_the_curve_with_its_last_model(tmp_path: Path) -> None:
    experiment = tiny_experiment(
        rounds=9,
        evaluation={"global_every": 4, "patience": 1},
        training={"lr": 1e-12},
        clients_per_round=4,
        strategy={"name": "fedavg"},
    )
    with simulated(tmp_path / "run", experiment, GlobalTask()) as run:
        assert [point.round for point in global_curve(run.database)] == [0, run.database.ended_early()]


def test_without_the_client_whose_worker_measures_a_point_is_missing(drive: Drive) -> None:
    bench = drive(every(1, clients_per_round=4), GlobalTask())
    worker = bench.register("w", clients={1, 2, 3})
    bench.do_all(worker)
    while bench.coordinator.advance() is not Step.COMMIT:
        bench.now += 5
    bench.commit()
    bench.finish()
    assert [point.round for point in global_curve(bench.run.database)] == [1, 2]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("curve") / "run"
    with simulated(path, every(1, evaluation={"global_examples": 40}), GlobalTask()) as run:
        write_summary(run)
    return path


def test_the_curve_stands_wherever_a_runs_numbers_do(path: Path) -> None:
    with RunDirectory(path, read_only=True) as run:
        curve = global_curve(run.database)
        summary, status, text = summarise(run), status_of(run), final_table(run)
    assert [point.round for point in curve] == [0, 1, 2]
    scores = [point.values["accuracy"] for point in curve]
    assert summary["global_curve"] == [{"round": p.round, "examples": 40, **p.values} for p in curve]
    last = curve[-1]
    assert status.shared == pb.SharedModel(after=2, examples=40, values=last.values)
    line = f"shared model after round 2: accuracy {scores[2]:.3f}, loss {last.values['loss']:.3f} on 40 global"
    assert describe_shared(status.shared, status.score).startswith(line)
    assert f"global test examples: accuracy {scores[2]:.3f} after round 2, best {max(scores):.3f} after" in text
    assert verify(path).problems == 0
    with open_run(path) as view:
        assert view.global_curve()["accuracy"].tolist() == scores
        assert (view.metrics()["phase"] == "shared").sum() == 3


def test_reports_comparisons_and_trackers_have_the_curve(path: Path) -> None:
    run = read_run(path)
    assert run.curve is not None
    scores = run.curve.values["accuracy"].tolist()
    groups = group_runs([run])
    targets = target_accuracies(groups)
    row = figures(groups[0], targets)
    assert row.shared_last is not None
    assert row.shared_best is not None
    assert (row.shared_last.mean, row.shared_best.mean) == (scores[-1], max(scores))
    assert f"{scores[-1]:.3f}" in table([row], targets, "simple").splitlines()[2]
    assert "shared, global" in table([row], targets, "simple")
    figure = draw_global(groups)
    assert figure is not None
    accuracy, loss = figure.axes
    assert accuracy.lines[0].get_ydata().tolist() == pytest.approx(scores)  # type: ignore[union-attr]
    assert loss.lines[0].get_xdata().tolist() == [0, 1, 2]  # type: ignore[union-attr]
    steps = told(run.path)
    assert list(steps) == [0, 1, 2, 3]
    assert [steps[step]["accuracy/shared"] for step in range(3)] == scores
    assert "accuracy/downloaded" in steps[1]


def test_by_default_there_is_no_curve(finished_run: Path) -> None:
    run = read_run(finished_run)
    assert run.curve is None
    assert draw_global(group_runs([run])) is None
    with RunDirectory(finished_run, read_only=True) as opened:
        assert not status_of(opened).HasField("shared")
        assert "global_curve" not in summarise(opened)


@pytest.mark.parametrize(
    ("strategy", "why"),
    [
        ({"name": "standalone"}, "there is no global model"),
        ({"name": "fedselect"}, "a part of the weights is each client's own"),
        ({"name": "lg-fedavg", "personal": ["0.*"]}, "'0.bias' is each client's own"),
    ],
)
def test_what_is_not_shared_cannot_be_measured(strategy: dict[str, Any], why: str, tmp_path: Path) -> None:
    name = strategy["name"]
    with pytest.raises(ExperimentError, match=rf"^evaluation\.global_every = 2: with strategy\.name = '{name}' {why}$"):
        create(tmp_path / "run", every(2, strategy=strategy), GlobalTask())


def test_a_task_without_global_test_data_is_refused_before_a_run_is_set_up() -> None:
    with pytest.raises(
        TaskError, match=r"has no function global_test\(experiment\), which evaluation.global_every = 2"
    ):
        load_task(every(2, task={"name": "folders"}))


@pytest.mark.parametrize("asked", [True, False])
def test_a_result_with_too_much_or_too_little_is_refused(drive: Drive, asked: bool) -> None:
    bench = drive(every(1), GlobalTask())
    worker = bench.register()
    answers = [bench.do(bench.take(worker))]
    if not asked:
        assert bench.submit(worker, answers.pop()).verdict == pb.SubmitReply.ACCEPTED
        answers.append(bench.do(bench.take(worker)))
    metrics = answers[0].result.metrics
    assert metrics.HasField("shared_model") == asked, "the first client's worker measures, and no other"
    if asked:
        metrics.ClearField("shared_model")
    else:
        metrics.shared_model.CopyFrom(metrics.personalised)
    reply = bench.submit(worker, answers[0])
    assert reply.verdict == pb.SubmitReply.REFUSED
    assert reply.reason == f"metrics.shared_model: {'missing' if asked else 'was not asked for in its plan'}"


class Lengths(ObjectiveTask):
    """Judged by R², with the error and the loss beside it."""

    def global_test(self, examples: int) -> TensorDataset:
        inputs, _ = global_data(min(examples, 60)).tensors
        return TensorDataset(inputs, inputs.sum(dim=1))


def test_of_an_objective_of_its_own_all_values_are_in_the_curve(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", every(2), Lengths("regression")) as run:
        names = {point.round: list(point.values) for point in global_curve(run.database)}
        (summary,) = round_summaries(run.database, 3)
        assert names == {0: ["r2", "loss", "mae", "rmse"], 2: ["r2", "loss", "mae", "rmse"]}
        assert set(summary.personalised) == set(names[0])
        text = describe_shared(status_of(run).shared, status_of(run).score)
    assert text.startswith("shared model after round 2: r2 ")
    assert "mae" in text
