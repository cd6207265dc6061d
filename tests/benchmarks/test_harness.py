"""The harness: what a table claims is what was measured."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from benchmarks.harness import (
    Goal,
    Spread,
    at_least,
    at_most,
    constant,
    in_turn,
    interleaved,
    number,
    seconds,
    share,
    table,
    times_less,
)
from benchmarks.peakmemory import MIB, MemoryWatch, extra_memory
from tests.support.paths import ROOT


def test_ratios_are_medians_of_pairs_not_ratios_of_medians() -> None:
    ours, baseline = Spread((1.0, 2.0, 8.0)), Spread((4.0, 2.0, 8.0))
    assert share("x", ours, baseline, "b", "s").ratio.values == (0.25, 1.0, 1.0)
    row = times_less("x", ours, baseline, "b", "s")
    assert row.ratio.values == (4.0, 1.0, 1.0)
    assert row.ratio.median == 1.0


def test_a_constant_goes_with_every_measurement() -> None:
    assert share("x", Spread((1.0, 2.0)), constant(4.0), "b", "MiB").ratio.values == (0.25, 0.5)
    assert times_less("x", constant(2.0), Spread((2.0, 6.0)), "b", "MiB").ratio.values == (1.0, 3.0)


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (at_least(2), True),
        (at_least(2.1), False),
        (at_most(2), True),
        (at_most(1.9), False),
        (at_most(10, of="ours"), True),
        (at_most(9, of="ours"), False),
        (None, None),
    ],
)
def test_a_goal_bounds_the_median(goal: Goal | None, met: bool | None) -> None:
    assert share("x", Spread((1.0, 10.0, 99.0)), Spread((1.0, 5.0, 11.0)), "b", "s", goal).met is met


def test_measures_are_taken_in_turn_and_the_first_turn_is_not_counted() -> None:
    calls: list[str] = []

    def measure(name: str, figures: Iterator[int]) -> float:
        calls.append(name)
        return next(figures)

    taken = interleaved(2, a=partial(measure, "a", itertools.count(0)), b=partial(measure, "b", itertools.count(10)))
    assert calls == ["a", "b"] * 3
    assert taken == {"a": Spread((1, 2)), "b": Spread((11, 12))}


def test_what_starts_anew_each_time_has_no_turn_to_warm_up() -> None:
    first, second = itertools.count(1), itertools.count(11)
    taken = in_turn(2, a=lambda: next(first), b=lambda: next(second))
    assert taken == {"a": Spread((1, 2)), "b": Spread((11, 12))}


def test_preparing_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    seen: list[int] = []
    assert seconds(seen.append, prepare=lambda: next(clock) + next(clock))() == 1
    assert seen == [1]


def test_a_table_shows_figures_goal_and_whether_it_is_met() -> None:
    rows = [
        times_less("prune", Spread((0.05, 0.1, 0.2)), Spread((1.0, 1.0, 1.0)), "torch", "s", at_least(10)),
        share("stream", constant(0.5), constant(1.0), "raw", "GB/s", at_least(0.8)),
        share("round", constant(4.0), constant(2.0), "raw", "s"),
    ]
    lines = table(rows, "github").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[2] == [
        "prune",
        "0.100 s (0.050 to 0.200)",
        "torch: 1.00 s",
        "10.0 × less (5.00 to 20.0)",
        "≥ 10 × less",
        "yes",
    ]
    assert cells[3] == ["stream", "0.500 GB/s", "raw: 1.00 GB/s", "0.500 ×", "≥ 0.8 ×", "NO"]
    assert cells[4] == ["round", "4.00 s", "raw: 2.00 s", "2.00 ×", "", ""]


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def take_memory() -> Callable[[], object]:
    return partial(bytearray, 64 * MIB)


def test_memory_is_that_of_the_work_alone() -> None:
    assert 63 * MIB < extra_memory(take_memory) < 80 * MIB


def test_memory_that_was_not_seen_is_a_page() -> None:
    assert MemoryWatch(os.getpid()).extra == os.sysconf("SC_PAGE_SIZE")


def test_an_unknown_part_is_named() -> None:
    command = [sys.executable, "-m", "benchmarks", "pruning", "nonsense"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "nonsense: expected of pruning, training," in ended.stderr
