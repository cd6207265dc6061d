"""Strategies go by the score of a task's own objective, in its direction."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.tensors.file import open_file
from lotteryfl.common.training.score import Score
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.setup import set_up
from lotteryfl.server.strategies import create_strategy
from lotteryfl.server.strategies.base import ClientState
from tests.support.bench import Bench, TinyTask, tiny_experiment
from tests.support.scored import MAE, R2, ScoredBench, ScoredTask

Drive = Callable[..., Bench]


def plan(score: Score, densities: tuple[float, ...] = (), **strategy: object) -> pb.Plan:
    experiment = tiny_experiment(strategy=strategy)
    return create_strategy(experiment, score).plan(2, ClientState(0, lambda: densities))


@pytest.mark.parametrize("name", ["lotteryfl", "hermes", "sub-fedavg", "fedltn"])
def test_a_gate_is_set_where_the_experiment_has_one(name: str) -> None:
    for score in (MAE, R2):
        assert not plan(score, name=name).prune.HasField("score_threshold")
        prune = plan(score, name=name, score_threshold=-2.5).prune
        assert (prune.score_threshold, prune.accuracy_threshold) == (-2.5, 0)
    assert plan(Score(), name=name, accuracy_threshold=0.25).prune.accuracy_threshold == 0.25


@pytest.mark.parametrize(
    ("score", "threshold", "expected"), [(R2, 0.8, 0.2), (MAE, 3.0, 12.0), (R2, -1.0, -4.0), (MAE, -4.0, -1.0)]
)
def test_cells_threshold_gets_easier_in_every_round_without_pruning(
    score: Score, threshold: float, expected: float
) -> None:
    changes = {"name": "cell", "score_threshold": threshold, "threshold_decay": 0.5}
    assert plan(score, (), **changes).prune.score_threshold == threshold
    assert plan(score, (1.0, 1.0), **changes).prune.score_threshold == expected
    assert not plan(score, (0.5,), **changes).prune.HasField("score_threshold"), "at its target whatever its score"


def test_an_easier_threshold_stays_a_number() -> None:
    for share in (1e-300, 0.0):
        assert 1e300 < MAE.lenient(1e300, share) < float("inf")
        assert -float("inf") < R2.lenient(-1e300, share) < -1e300


@pytest.mark.parametrize("score", [MAE, R2])
def test_the_jump_start_takes_the_best_by_the_score(tmp_path: Path, score: Score) -> None:
    changes = {"name": "fedltn", "jump_start_epochs": 2}
    bench = ScoredBench(tmp_path / "run", tiny_experiment(rounds=1, strategy=changes), ScoredTask(score))
    worker = bench.register()
    bench.do_all(worker)
    rows = bench.run.database.results(1)
    scores = {row.client: row.validation_score for row in rows}
    assert None not in scores.values()
    assert len(set(scores.values())) > 1
    best = (min if score is MAE else max)(rows, key=lambda row: row.validation_score or 0.0)
    assert bench.conclude().model is not None
    own, model = open_file(bench.path / best.file), open_file(bench.run.model_path(1))
    assert (own["dense/0.bias"] == model["0.bias"]).all()
    bench.close()


def test_who_prunes_and_is_not_good_enough_is_refused(tmp_path: Path) -> None:
    """This bench's hands know of no threshold: they prune."""
    experiment = tiny_experiment(rounds=1, strategy={"score_threshold": -1.0})
    bench = ScoredBench(tmp_path / "run", experiment, ScoredTask(MAE))
    worker = bench.register()
    reply = bench.submit(worker, bench.do(bench.take(worker)))
    assert reply.verdict == pb.SubmitReply.REFUSED
    assert "with a validation mae of " in reply.reason
    assert reply.reason.endswith("expected none above -1.0")
    bench.close()


@pytest.mark.parametrize(
    ("score", "strategy", "message"),
    [
        (
            MAE,
            {"accuracy_threshold": 0.3},
            r"accuracy_threshold = 0\.3: this task is judged by its mae: expected strat",
        ),
        (
            Score(),
            {"score_threshold": 0.3},
            r"score_threshold = 0\.3: this task is classification, judged by its accura",
        ),
    ],
)
def test_a_threshold_of_the_other_kind_is_refused(
    tmp_path: Path, score: Score, strategy: dict[str, float], message: str
) -> None:
    task = ScoredTask(score) if score.own else TinyTask()
    with pytest.raises(ExperimentError, match=message):
        set_up(tmp_path / "run", tiny_experiment(strategy=strategy), task)
