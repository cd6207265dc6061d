"""A run that is made longer: the bits of one begun so, what stays on record, and what cannot be."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lotteryfl.common import faults
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import Experiment, load_resolved
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.reporting.data import read_run
from lotteryfl.server.results.summary import summarise, write_summary
from lotteryfl.server.results.verify import verify
from lotteryfl.server.results.view import open_run
from lotteryfl.server.rounds.longer import with_settings
from lotteryfl.server.store.extension import earlier_rounds, lengthen
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.bench import Bench, Tied, TinyTask, simulated, tiny_experiment

Drive = Callable[..., Bench]


def make_longer(bench: Bench, *settings: str) -> Bench:
    """Stop the run, make it longer, and take it up again."""
    bench.close()
    with RunDirectory(bench.path) as run:
        lengthen(run, with_settings(run, settings).rounds)
    return bench.restart()


def refusal(bench: Bench, *settings: str) -> str:
    with pytest.raises(LotteryFLError) as caught:
        with_settings(bench.run, settings)
    return str(caught.value).removeprefix(f"{bench.path}: --set ")


def to_final(bench: Bench) -> None:
    """Do all training rounds."""
    worker = bench.register()
    while not bench.coordinator.is_final:
        bench.do_all(worker)
        bench.commit()


def expected(path: Path, experiment: Experiment, task: TinyTask | None = None) -> tuple[str, str]:
    with simulated(path, experiment, task) as run:
        return run.database.get("model_sha256"), run.tickets_sha256()


STRATEGIES: list[dict[str, Any]] = [
    {"name": "lotteryfl", "target_density": 0.2},
    {"name": "fedavg-finetune", "finetune_epochs": 3},
    {"name": "cell", "target_density": 0.2, "accuracy_threshold": 0.3},
    {"name": "hermes", "target_density": 0.2},
    {"name": "ssfl"},
    {"name": "lotteryfl", "preset": "paper", "accuracy_threshold": 0.1},
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: "-".join(map(str, strategy.values())))
@pytest.mark.parametrize("when", ["in training", "measuring", "finished"])
def test_a_longer_run_comes_to_the_bits_of_one_begun_so(
    strategy: dict[str, Any], when: str, drive: Drive, tmp_path: Path
) -> None:
    changes = {"strategy": strategy, "server": {"optimizer": "adam"}, "evaluation": {"test_examples": 4}}
    bench = drive(tiny_experiment(**changes))
    worker = bench.register()
    if when == "in training":
        bench.submit(worker, bench.do(bench.take(worker)))
    elif when == "measuring":
        to_final(bench)
        bench.submit(worker, bench.do(bench.take(worker)))
    else:
        bench.finish()
    make_longer(bench, "rounds=5")
    assert verify(bench.path).problems == 0, list(verify(bench.path).lines())
    bench.finish()
    assert bench.bits()[:2] == expected(tmp_path / "whole", tiny_experiment(rounds=5, **changes))
    write_summary(bench.run)
    bench.close()
    report = verify(bench.path)
    assert report.problems == 0, list(report.lines())
    assert report.leftovers == []


def test_a_finished_run_is_made_longer_twice(drive: Drive, tmp_path: Path) -> None:
    experiment = tiny_experiment(rounds=1, wire_dtype="int8")
    bench = drive(experiment, TinyTask(Tied)).finish()
    make_longer(make_longer(bench, "rounds=2").finish(), "rounds=3", "seed=0").finish()
    whole = expected(tmp_path / "whole", tiny_experiment(rounds=3, wire_dtype="int8"), TinyTask(Tied))
    assert bench.bits()[:2] == whole
    assert earlier_rounds(bench.run.database) == [1, 2]


def test_the_old_last_round_stays_on_record(drive: Drive) -> None:
    bench = drive().finish()
    before = summarise(bench.run)
    write_summary(bench.run)
    make_longer(bench, "rounds=4")
    assert load_resolved(bench.path / "experiment.toml") == tiny_experiment(rounds=4)
    assert bench.run.state == "running"
    assert (bench.coordinator.round, bench.coordinator.is_final) == (3, False)
    status = bench.coordinator.status()
    assert (status.round, status.rounds, status.last.round) == (2, 4, 2)
    assert not (bench.path / "summary.json").exists()
    assert (bench.path / "summary-0002.json").read_text()
    bench.finish()
    bench.close()
    with open_run(bench.path) as view:
        metrics = view.metrics()
        assert sorted(metrics["round"].unique()) == [-3, 1, 2, 3, 4, 5]
        measured = metrics[(metrics["round"] == -3) & (metrics["phase"] == "personalised")]
        assert measured["accuracy"].mean() == pytest.approx(before["accuracy"]["personalised_last"])
        assert list(view.rounds()["round"]) == [1, 2, 3, 4, 5]
    data = read_run(bench.path)
    assert data.rounds.number.tolist() == [1, 2, 3, 4, 5]
    assert {lease.round for lease in data.leases} == {1, 2, 3, 4, 5}
    (line,) = [line for line in verify(bench.path).lines() if line.startswith("ok  experiment")]
    assert "4 rounds (at first 2)" in line


def test_an_answer_to_the_old_last_round_is_stale(drive: Drive) -> None:
    """It has the number of a training round now, and may be of the same worker."""
    bench = drive()
    to_final(bench)
    worker = bench.register()
    answer = bench.do(bench.take(worker))
    make_longer(bench, "rounds=4")
    assert bench.register() == worker
    assert bench.take(worker).assignment.assignment_id == "r3-c0-a2"
    assert answer.result.assignment_id.startswith("r3-c0-a1")
    assert bench.submit(worker, answer).verdict == pb.SubmitReply.STALE
    rows = {row.client: (row.attempt, row.forgiven) for row in bench.run.database.assignments(3)}
    assert rows == {0: (2, 1), 1: (0, 0), 3: (0, 0)}, "and it costs no attempt"


def test_what_it_has_already_may_be_said(drive: Drive) -> None:
    bench = drive()
    assert with_settings(bench.run, ["rounds=2", "training.lr=0.1"]) == bench.run.experiment


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("training.lr=0.05", "training.lr = 0.05: the run has 0.1, and only its rounds can become more; "),
        ("seed=1", "seed = 1: the run has 0, and only"),
        ("task.data_dir=/mnt", "task.data_dir = '/mnt': the run has '', and only"),
        ("rounds=1", "rounds = 1: the run has 2, 2 of them committed; expected no fewer"),
    ],
)
def test_what_differs_is_refused_by_name(setting: str, told: str, drive: Drive) -> None:
    bench = drive().finish()
    assert refusal(bench, setting, "strategy.prune_rate=0.3").startswith(told)
    assert refusal(bench, "rounds=9", setting).startswith(told)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"rounds": 4, "strategy": {"name": "feddst", "readjust_every": 1}},
            "rounds = 9: the run has 4, and strategy.name = 'feddst' has another round 1 where there are 9 of them",
        ),
        (
            {"rounds": 4, "strategy": {"name": "fedrts"}},
            "rounds = 9: the run has 4, and strategy.name = 'fedrts' has another round 1 where there are 9 of them",
        ),
        (
            {"rounds": 4, "strategy": {"name": "fedtiny", "readjust_every": 1}},
            "rounds = 9: the run has 4, and strategy.name = 'fedtiny' has another round 3 where there are 9 of them",
        ),
        (
            {"privacy": {"noise": "server", "clip_norm": 1.0}, "strategy": {"name": "fedavg"},
             "aggregation": {"weighting": "equal"}},
            "rounds = 9: the run has 2, and privacy.noise = 'server' promised its clients an ε",
        ),
        (
            {"privacy": {"dp_sgd": True}, "strategy": {"name": "fedavg"}},
            "rounds = 9: the run has 2, and privacy.dp_sgd = True promised its clients an ε",
        ),
        (
            {"training": {"schedule": {"kind": "cosine"}}},
            "rounds = 9: the run has 2, and training.schedule.kind = 'cosine' depends on how many there are",
        ),
    ],
)  # fmt: skip
def test_what_depends_on_the_number_of_rounds_is_refused_by_name(
    changes: dict[str, Any], told: str, drive: Drive
) -> None:
    assert refusal(drive(tiny_experiment(**changes)), "rounds=9").startswith(told)


@pytest.mark.parametrize(
    ("evaluation", "told"), [({"patience": 5}, "patience = 5"), ({"keep_best": True}, "keep_best = True")]
)
def test_what_has_looked_at_the_last_round_is_not_gone_on_from(
    evaluation: dict[str, Any], told: str, drive: Drive, tmp_path: Path
) -> None:
    experiment = tiny_experiment(evaluation=evaluation)
    bench = drive(experiment)
    make_longer(bench, "rounds=3")
    to_final(bench)
    assert refusal(bench, "rounds=4") == (
        f"rounds = 4: the run has 3, and evaluation.{told} has looked at its last one; expected a run that has not "
        "come to it"
    )
    bench.finish()
    assert bench.bits()[:2] == expected(tmp_path / "whole", tiny_experiment(rounds=3, evaluation=evaluation))


def test_a_run_whose_training_has_ended_early_is_not_made_longer(drive: Drive) -> None:
    still = {"training": {"lr": 1e-12}, "clients_per_round": 4, "strategy": {"name": "fedavg"}}
    bench = drive(tiny_experiment(rounds=5, evaluation={"patience": 1}, **still))
    to_final(bench)
    told = "rounds = 9: the run has 5, and its training ended early, after round 2 (evaluation.patience)"
    assert refusal(bench, "rounds=9") == refusal(bench.finish(), "rounds=9") == told


@pytest.mark.parametrize(
    ("strategy", "told"),
    [
        ({"name": "standalone"}, "strategy.name = 'standalone'"),
        ({"name": "fedselect"}, "strategy.name = 'fedselect'"),
        ({"name": "lg-fedavg", "personal": ["0.*"]}, "'0.bias' is each client's own"),
    ],
)
def test_what_the_last_measuring_has_fine_tuned_is_not_gone_on_from(
    strategy: dict[str, Any], told: str, drive: Drive, tmp_path: Path
) -> None:
    experiment = tiny_experiment(strategy=strategy)
    bench = drive(experiment, name="finished").finish()
    assert refusal(bench, "rounds=3") == (
        f"rounds = 3: the run has 2, and its clients have been personalised, which they go on from: {told}; expected a "
        "run that has not come to its last measuring"
    )
    open_still = drive(experiment, name="measuring")
    to_final(open_still)
    make_longer(open_still, "rounds=3").finish()
    whole = expected(tmp_path / "whole", tiny_experiment(rounds=3, strategy=strategy))
    assert open_still.bits()[:2] == whole


@pytest.mark.parametrize("point", faults.LENGTHENING_POINTS)
def test_a_crash_leaves_a_run_that_is_longer_or_as_it_was(
    point: str, drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """run.db has it first: from then on it is longer, whatever its experiment.toml says until it is written again."""
    bench = drive().finish()
    bench.close()
    monkeypatch.setattr(faults, "_plan", faults.Plan((faults.Fault(point, "raise", 1),)))
    with RunDirectory(bench.path) as run, pytest.raises(LotteryFLError, match="cannot be written: No space left"):
        lengthen(run, 4)
    with RunDirectory(bench.path, read_only=True) as looked:
        assert looked.experiment == tiny_experiment(rounds=4)
    assert verify(bench.path).problems == 0
    bench.restart()
    assert load_resolved(bench.path / "experiment.toml") == tiny_experiment(rounds=4)
    bench.close()
    text = (bench.path / "experiment.toml").read_text()
    (bench.path / "experiment.toml").write_text(text.replace("rounds = 4", "rounds = 2"))
    with pytest.raises(LotteryFLError, match=r"rounds = 2, expected 4 as run.db has it"):
        RunDirectory(bench.path)  # now it is an edit
    (bench.path / "experiment.toml").write_text(text)


def test_what_cannot_be_written_leaves_the_run_as_it_was(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = drive().finish()
    bits = bench.bits()

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(bench.run.database, "set_aside", full)
    with pytest.raises(LotteryFLError, match="cannot be written: database or disk is full"):
        lengthen(bench.run, 4)
    assert bench.restart().run.experiment == tiny_experiment()
    assert bench.finish().bits() == bits
