"""Runs of a task with an objective of its own, whose numbers come from what the tiny task's clients measure."""

from pathlib import Path
from typing import Any

from lotteryfl.client.work.assignment import AssignmentRunner
from lotteryfl.common.tensors.file import open_file
from lotteryfl.common.training.score import Score
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.work import Work
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.bench import CPU, Answer, Bench, TinyTask, tiny_experiment

MAE = Score("mae", higher_is_better=False, own=True)
R2 = Score("r2", own=True)


class ScoredTask(TinyTask):
    """The tiny task, as if its runs were judged otherwise."""

    def __init__(self, score: Score) -> None:
        super().__init__()
        self.score = score


def objective_of(evaluation: pb.Evaluation) -> dict[str, float]:
    """What an objective would measure where a classifier has this accuracy: r2 from -1 to 1, mae from 4 to 0."""
    return {"r2": 2 * evaluation.accuracy - 1, "mae": 4 * (1 - evaluation.accuracy)}


class ScoredBench(Bench):
    """Hands that say of their work what an objective measures."""

    def _open(self, run: RunDirectory) -> None:
        super()._open(run)
        self._runner = AssignmentRunner(TinyTask(), run.experiment, run.model_table, open_file(run.model_path(0)), CPU)

    def do(self, work: Work) -> Answer:
        answer = super().do(work)
        metrics = answer.result.metrics
        for phase in (metrics.validation, metrics.downloaded, metrics.personalised):
            if phase.examples:
                measured = pb.Evaluation(examples=phase.examples, loss=phase.loss, values=objective_of(phase))
                phase.CopyFrom(measured)
        return answer


def scored(path: Path, score: Score, **changes: Any) -> ScoredBench:
    """A finished run; whoever calls closes it."""
    return ScoredBench(path, tiny_experiment(**changes), ScoredTask(score)).finish()
