"""Runs that differ in their seed alone belong together: they are shown as one, with their mean and spread."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.training.score import Score
from lotteryfl.server.results.reporting.data import FloatArray, IntArray, RunData

_SEED = re.compile(r"-seed\d+$")
"""What `lotteryfl compare` adds to the names of its run directories."""


@dataclass(frozen=True)
class Group:
    """Runs of one experiment but for the seed; at least one."""

    label: str
    runs: tuple[RunData, ...]

    @property
    def first(self) -> RunData:
        """The run to show where one must do."""
        return self.runs[0]

    @property
    def score(self) -> Score:
        """What its runs are judged by."""
        return self.first.score

    @property
    def measured(self) -> list[str]:
        """What the task's own objective measures in all its runs: names, the score first."""
        return self.score.first_of(set.intersection(*(set(run.rounds.values) for run in self.runs)))

    @property
    def title(self) -> str:
        """Label, and how many seeds there are."""
        return self.label if len(self.runs) == 1 else f"{self.label} ({len(self.runs)} seeds)"

    @cached_property
    def length(self) -> int:
        """Rounds that all runs have."""
        return min(len(run.rounds.number) for run in self.runs)

    @property
    def rounds(self) -> IntArray:
        """Their numbers."""
        return self.first.rounds.number[: self.length]

    @property
    def sent(self) -> FloatArray:
        """(rounds,): mean over runs of the megabytes sent so far."""
        return self.over_runs(lambda run: run.sent)[0]

    def over_runs(self, series: Callable[[RunData], FloatArray | IntArray]) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation over the runs of a series over rounds, each (rounds,)."""
        stacked = np.stack([series(run)[: self.length] for run in self.runs]).astype(float)
        return stacked.mean(axis=0), stacked.std(axis=0)

    def curve(self, name: str) -> tuple[IntArray, FloatArray, FloatArray] | None:
        """Return rounds, mean and standard deviation of what the shared model was worth where all runs know it.

        Args:
            name: of the score, or what else is measured.

        Returns:
            Each (measurements,); None: there is none that all runs have.
        """
        curves = [run.curve for run in self.runs if run.curve is not None and name in run.curve.values]
        if len(curves) < len(self.runs):
            return None
        rounds = reduce(np.intersect1d, (curve.rounds for curve in curves))
        stacked = np.stack([curve.values[name][np.isin(curve.rounds, rounds)] for curve in curves])
        return (rounds, stacked.mean(axis=0), stacked.std(axis=0)) if rounds.size else None


def group_runs(runs: Sequence[RunData]) -> list[Group]:
    """Put runs that differ in their seed alone together, in the order in which they come.

    A group is called after its strategy; where several have the same one, after the folder of its first run.
    """
    found: dict[str, list[RunData]] = {}
    for run in runs:
        found.setdefault(_without_seed(run.experiment), []).append(run)
    groups = list(found.values())
    strategies = [group[0].experiment.strategy.name for group in groups]
    labels = [
        name if strategies.count(name) == 1 else _SEED.sub("", group[0].name)
        for name, group in zip(strategies, groups, strict=True)
    ]
    return [
        Group(label, tuple(sorted(group, key=lambda run: run.experiment.seed)))
        for label, group in zip(labels, groups, strict=True)
    ]


def common_score(groups: Sequence[Group]) -> Score:
    """Return what all runs are judged by.

    Raises:
        LotteryFLError: some are judged otherwise than others.
    """
    score = groups[0].score
    for run in (run for group in groups for run in group.runs):
        if run.score != score:
            raise LotteryFLError(
                f"{run.path}: is judged by its {run.score.name}, and {groups[0].first.path} by its {score.name}: "
                "expected runs of one task"
            )
    return score


def _without_seed(experiment: Experiment) -> str:
    return experiment.model_copy(update={"seed": 0}).model_dump_json()
