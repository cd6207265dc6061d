"""Measures ours beside a baseline, one after the other again and again, and puts what came out into a table."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from tabulate import tabulate

Measure = Callable[[], float]
"""Does the work once and returns its figure: seconds, bytes, GB/s."""


@dataclass(frozen=True)
class Spread:
    """One figure, measured several times."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value."""
        return median(self.values)

    def text(self, unit: str = "") -> str:
        """Return median and range, e.g. `1.43 s (1.38 to 1.52)`."""
        shown = f"{number(self.median)} {unit}".rstrip()
        if min(self.values) == max(self.values):
            return shown
        return f"{shown} ({number(min(self.values))} to {number(max(self.values))})"


def constant(value: float) -> Spread:
    """Return a figure that is counted or known, not measured."""
    return Spread((value,))


@dataclass(frozen=True)
class Goal:
    """A bound, of the ratio or of our own figure."""

    sign: Literal["≥", "≤"]
    bound: float
    of: Literal["ratio", "ours"] = "ratio"

    def met(self, row: "Row") -> bool:
        """Say whether the row's median keeps to the bound."""
        value = getattr(row, self.of).median
        return bool(value >= self.bound if self.sign == "≥" else value <= self.bound)


def at_least(bound: float, of: Literal["ratio", "ours"] = "ratio") -> Goal:
    """Return the goal of a figure that should be high."""
    return Goal("≥", bound, of)


def at_most(bound: float, of: Literal["ratio", "ours"] = "ratio") -> Goal:
    """Return the goal of a figure that should be low."""
    return Goal("≤", bound, of)


@dataclass(frozen=True)
class Row:
    """Ours beside a baseline."""

    name: str
    ours: Spread
    baseline: Spread
    against: str
    """What the baseline is."""
    unit: str
    ratio: Spread
    """Taken pair by pair: what was measured next to each other shared the machine's mood."""
    reads: Literal["×", "× less"]
    goal: Goal | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None: there is none, the row is for information."""
        return None if self.goal is None else self.goal.met(self)


def share(name: str, ours: Spread, baseline: Spread, against: str, unit: str, goal: Goal | None = None) -> Row:
    """Return the row that shows ours as a multiple of the baseline."""
    return Row(name, ours, baseline, against, unit, _pairwise(ours, baseline), "×", goal)


def times_less(name: str, ours: Spread, baseline: Spread, against: str, unit: str, goal: Goal | None = None) -> Row:
    """Return the row that shows how many times less ours takes than the baseline."""
    return Row(name, ours, baseline, against, unit, _pairwise(baseline, ours), "× less", goal)


def seconds(work: Callable[..., object], prepare: Callable[[], Any] | None = None) -> Measure:
    """Return the measure of how long the work takes; what `prepare` returns is its argument, made outside of it."""

    def measure() -> float:
        prepared = () if prepare is None else (prepare(),)
        start = time.perf_counter()
        work(*prepared)
        return time.perf_counter() - start

    return measure


def interleaved(repeats: int, **measures: Measure) -> dict[str, Spread]:
    """Take all measures in turn, again and again, so that each meets the same machine; a turn before warms up."""
    in_turn(1, **measures)
    return in_turn(repeats, **measures)


def in_turn(repeats: int, **measures: Measure) -> dict[str, Spread]:
    """Take all measures in turn, again and again, without a turn before: of what starts anew each time."""
    turns = [[measure() for measure in measures.values()] for _ in range(repeats)]
    return {name: Spread(figures) for name, figures in zip(measures, zip(*turns, strict=True), strict=True)}


def number(value: float) -> str:
    """Return three significant digits, without an exponent."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def table(rows: Sequence[Row], style: str = "simple") -> str:
    """Return the rows as text; `style` is one of tabulate's."""
    cells = [
        (
            row.name,
            row.ours.text(row.unit),
            f"{row.against}: {row.baseline.text(row.unit)}",
            row.ratio.text(row.reads),
            "" if row.goal is None else _goal_text(row, row.goal),
            {True: "yes", False: "NO", None: ""}[row.met],
        )
        for row in rows
    ]
    return tabulate(cells, ("", "ours", "baseline", "ratio", "goal", "met"), tablefmt=style, disable_numparse=True)


def _goal_text(row: Row, goal: Goal) -> str:
    return f"{goal.sign} {goal.bound:g} {row.reads if goal.of == 'ratio' else row.unit}"


def _pairwise(top: Spread, bottom: Spread) -> Spread:
    """Divide pair by pair; a figure that was not measured goes with every one that was."""
    pairs = max(len(top.values), len(bottom.values))
    tops, bottoms = (s.values * pairs if len(s.values) == 1 else s.values for s in (top, bottom))
    return Spread(tuple(a / b for a, b in zip(tops, bottoms, strict=False)))
