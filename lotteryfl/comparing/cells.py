"""The runs of a comparison: which strategies and seeds, with which settings, in which folders."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lotteryfl.common.errors import ExperimentError, LotteryFLError
from lotteryfl.common.experiment.differences import first_difference
from lotteryfl.common.experiment.experiment import load
from lotteryfl.server.store.rundir import inspected
from lotteryfl.server.store.setupmark import is_set_up
from lotteryfl.server.strategies import create_strategy

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Becomes part of a folder's name."""


@dataclass(frozen=True)
class Cell:
    """One run."""

    label: str
    """What the comparison calls the strategy with its settings."""
    seed: int
    source: Path
    """The experiment file."""
    overrides: tuple[str, ...]
    """Settings in place of the experiment file's, as `--set` takes them."""
    path: Path
    """The run directory."""

    def is_finished(self) -> bool:
        """Tell whether its run directory holds the finished run.

        Raises:
            LotteryFLError: it holds the run of another experiment, or something else.
        """
        if not is_set_up(self.path):
            return False
        with inspected(self.path) as run:
            if difference := first_difference(load(self.source, self.overrides), run.experiment):
                raise LotteryFLError(
                    f"{self.path}: holds the run of another experiment (here {difference.key} = {difference.found}, "
                    f"there {difference.expected}): choose another --out"
                )
            return run.state == "finished"


def plan_cells(source: Path, strategies: str, seeds: str, overrides: Sequence[str], out: Path) -> list[Cell]:
    """Return all runs of a comparison, seed by seed.

    Args:
        source: the experiment file.
        strategies: comma-separated; NAME, or LABEL=NAME where a strategy comes more than once.
        seeds: comma-separated.
        overrides: KEY=VALUE for all runs, LABEL:KEY=VALUE for those of one label; the latter come last.
        out: the folder of all run directories.

    Raises:
        LotteryFLError: a strategy, a seed, a label or a setting is none, or comes twice.
    """
    labels = dict(_labelled(strategies))
    numbers = _seeds(seeds)
    shared, own = _split(overrides, tuple(labels))
    cells = [
        Cell(
            label,
            seed,
            source,
            (*shared, f"strategy.name={name}", *own[label], f"seed={seed}"),
            out / f"{label}-seed{seed}",
        )
        for seed in numbers
        for label, name in labels.items()
    ]
    experiments = [load(cell.source, cell.overrides) for cell in cells]
    attend = [create_strategy(experiment).attends for experiment in experiments]  # or what is wrong with one is said
    for cell, experiment, attends in zip(cells, experiments, attend, strict=True):
        if attends != attend[0]:
            goes, other = (cell, cells[0]) if attends else (cells[0], cell)
            raise ExperimentError(
                f"--strategies: {goes.label} draws clients by who is there (attends) and {other.label} does not, and "
                "what depends on attendance is not compared with what does not: expected one kind"
            )
        if experiment.engine != experiments[0].engine:
            raise ExperimentError(
                f"engine.stacked = {experiment.engine.stacked} of {cell.label}: {cells[0].label} has "
                f"{experiments[0].engine.stacked}, and what is trained by two engines is not compared: expected one"
            )
    return cells


def _labelled(strategies: str) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for part in strategies.split(","):
        label, _, name = part.strip().partition("=")
        if label in seen or not _LABEL.fullmatch(label):
            raise ExperimentError(
                f"--strategies {strategies}: {label!r}: expected a label of its own of letters, digits, '.', '_' and "
                "'-', as in mine=lotteryfl"
            )
        seen.add(label)
        yield label, name or label


def _seeds(seeds: str) -> list[int]:
    try:
        numbers = [int(part) for part in seeds.split(",")]
    except ValueError:
        raise ExperimentError(f"--seeds {seeds}: expected integers, as in 0,1,2") from None
    if len(set(numbers)) < len(numbers):
        raise ExperimentError(f"--seeds {seeds}: expected each seed once")
    return numbers


def _split(overrides: Sequence[str], labels: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the settings of all runs, and those of each label alone."""
    shared: list[str] = []
    own: dict[str, list[str]] = {label: [] for label in labels}
    for override in overrides:
        label, colon, setting = override.partition(":")
        if not colon or "=" in label:
            shared.append(override)
        elif label in own:
            own[label].append(setting)
        else:
            raise ExperimentError(f"--set {override}: {label} is none of the comparison's {', '.join(labels)}")
    return shared, own
