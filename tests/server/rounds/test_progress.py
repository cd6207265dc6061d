"""Training ends early when nothing gets better, and the best global model is kept: the same after every restart."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.training.score import Score
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.reporting.data import read_run
from lotteryfl.server.results.summary import summarise, write_summary
from lotteryfl.server.results.verify import verify
from lotteryfl.server.rounds.work import Step
from lotteryfl.server.store.summaries import round_summaries, scores_of
from tests.support.bench import Bench, simulated, tiny_experiment
from tests.support.scored import MAE, R2, ScoredBench, ScoredTask

Drive = Callable[..., Bench]

STILL = {"training": {"lr": 1e-12}, "clients_per_round": 4, "strategy": {"name": "fedavg"}}
LIVELY = {"training": {"lr": 0.5, "epochs": 3}, "strategy": {"name": "fedavg"}}


def committed(bench: Bench) -> list[int]:
    return [summary.round for summary in round_summaries(bench.run.database)]


@pytest.mark.parametrize("patience", [1, 3])
def test_training_ends_when_patience_does(drive: Drive, patience: int) -> None:
    bench = drive(tiny_experiment(rounds=9, evaluation={"patience": patience}, **STILL))
    for _ in range(1 + patience):
        bench.do_all(bench.register())
        assert bench.coordinator.status().reason == ""
        bench.commit()
        bench.restart()
    assert bench.coordinator.is_final
    status = bench.coordinator.status()
    why = f"no better accuracy for {patience} rounds (evaluation.patience): only the last is left"
    assert (status.round, status.last.round, status.reason) == (1 + patience, 1 + patience, why)
    assert verify(bench.path).problems == 0
    bench.restart().finish()
    status = bench.coordinator.status()
    assert (status.state, status.reason, status.last.round) == (pb.RunStatus.FINISHED, "", 10)
    assert committed(bench) == [*range(1, 2 + patience), 10]
    assert summarise(bench.run)["ended_early"] == 1 + patience
    write_summary(bench.run)
    assert verify(bench.path).problems == 0
    assert read_run(bench.path).is_final
    whole = drive(tiny_experiment(rounds=9, evaluation={"patience": patience}, **STILL), name="whole").finish()
    assert whole.bits() == bench.bits()


def test_as_long_as_one_of_both_scores_gets_better_training_goes_on(drive: Drive) -> None:
    bench = drive(tiny_experiment(rounds=4, evaluation={"patience": 1}, **STILL))
    worker = bench.register()
    for round_ in range(1, 4):
        while work := bench.coordinator.lease(worker):
            answer = bench.do(work)
            answer.result.metrics.downloaded.accuracy = round_ / 10
            answer.result.metrics.personalised.accuracy = 0.5
            bench.submit(worker, answer)
        bench.commit()
    assert committed(bench) == [1, 2, 3]
    assert not bench.coordinator.is_final
    assert bench.run.database.ended_early() == 0


@pytest.mark.parametrize("score", [Score(), R2, MAE])
def test_the_best_model_is_kept_and_no_other_but_the_newest(tmp_path: Path, score: Score) -> None:
    experiment = tiny_experiment(rounds=5, evaluation={"keep_best": True}, **LIVELY)
    task = ScoredTask(score)
    bench = ScoredBench(tmp_path / "run", experiment, task) if score.own else Bench(tmp_path / "run", experiment, task)
    contents = {0: bench.run.model_path(0).read_bytes()}
    while (step := bench.coordinator.advance()) is not Step.ENDED:
        if step is Step.COMMIT:
            bench.commit()
            round_ = bench.run.model_round
            contents[round_] = bench.run.model_path(round_).read_bytes()
            bench.restart()
        else:
            bench.do_all(bench.register())
    downloaded = [scores_of(each, score).downloaded for each in round_summaries(bench.run.database)]
    best = downloaded.index(score.best(downloaded))  # what round n downloads is the model after round n - 1
    assert bench.files("models") == {f"round-{round_:04d}.safetensors" for round_ in (0, best, 5)}
    kept = summarise(bench.run)["best_model"]
    assert kept == {"round": best, "score": downloaded[best], "file": f"models/round-{best:04d}.safetensors"}
    assert (bench.path / kept["file"]).read_bytes() == contents[best]
    write_summary(bench.run)
    bench.close()
    assert verify(bench.path).problems == 0
    (bench.path / kept["file"]).write_bytes(contents[(best + 1) % 5])
    assert any(f"problem: {kept['file']}: SHA-256 " in line for line in verify(bench.path).lines())


def test_by_default_nothing_is_kept_and_all_rounds_are_made(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment(rounds=3, **STILL)) as run:
        assert [each.round for each in round_summaries(run.database)] == [1, 2, 3, 4]
        assert {path.name for path in (run.path / "models").iterdir()} == {
            "round-0000.safetensors",
            "round-0003.safetensors",
        }
        assert not {"best_model", "ended_early"} & summarise(run).keys()
        assert hashlib.sha256(run.model_path(3).read_bytes()).hexdigest() == run.model_digest


def test_without_a_global_model_there_is_no_best_one(tmp_path: Path) -> None:
    changes = {"strategy": {"name": "standalone"}, "evaluation": {"keep_best": True}}
    with pytest.raises(
        ExperimentError, match=r"keep_best = true: with strategy.name = 'standalone' there is no global"
    ):
        simulated(tmp_path / "run", tiny_experiment(**changes))
