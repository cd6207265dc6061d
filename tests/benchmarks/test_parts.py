"""Every part of the benchmarks with tiny sizes: it works. How fast or large anything is, no test asks."""

import math
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks import ballast, exports, frozen, privacy, results, workermemory
from benchmarks.parts import PARTS, rows_of

SLOW = {"memory", "stream", "floor", "assignments", "ahead", "page", "round", "fleet", "pruning", "aggregation"}


@pytest.mark.parametrize("part", [pytest.param(part, marks=[pytest.mark.slow] * (part in SLOW)) for part in PARTS])
def test_a_part_measures_what_it_says(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ballast.SIZE, "")  # parts set it, and this test leaves it as it was
    rows = rows_of(part, quick=True)
    assert rows
    for row in rows:
        figures = (*row.ours.values, *row.baseline.values, *row.ratio.values)
        assert figures
        assert all(math.isfinite(figure) and figure > 0 for figure in figures), row


@pytest.mark.parametrize("options", [[], ["--quick"]])
def test_only_a_whole_run_of_full_size_is_written_down(
    options: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "PATH", tmp_path / "RESULTS.md")
    monkeypatch.setattr(program, "PARTS", ("traffic",))  # the whole is this one part
    monkeypatch.setattr("sys.argv", ["benchmarks", *options])
    program.main()
    size = "20 k" if options else "11 M"
    assert f"bytes of {size} at density 0.1, float32 down and up" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ([] if options else ["RESULTS.md"])


@pytest.mark.slow
def test_what_is_frozen_is_measured_through_processes() -> None:
    found = {name: frozen.measured(frozen.QUICK, rank) for name, rank in frozen.RANKS.items()}
    adapters, dense = found.values()
    assert adapters.up < dense.up / 5
    assert adapters.later < adapters.initial / 5
    assert dense.later == pytest.approx(dense.initial, rel=0.01)
    assert min(min(outcome) for outcome in found.values()) > 0


@pytest.mark.slow
def test_every_case_of_privacy_is_measured() -> None:
    found = dict(privacy.outcomes(privacy.QUICK, [0]))
    assert found.keys() == privacy.CASES.keys()
    for name, (run,) in found.items():
        assert 0 <= run.downloaded <= 1, name
        assert 0 <= run.personalised <= 1, name
        assert run.seconds > 0, name
        assert (run.epsilon is None) == ("z =" not in name), name


def test_a_case_of_a_workers_memory_is_measured() -> None:
    case = workermemory.CASES[0]
    workermemory.prepare(case)()
    assert workermemory.counted(case) > 0


def test_the_forms_of_an_export_are_measured() -> None:
    found = exports.measured(exports.QUICK)
    dense, weights, rows, small, half, both = found.values()
    assert dense.file == weights.file == rows.file > half.file
    assert small.values < dense.values
    assert both.file < small.file < dense.file
    assert all(min(outcome.seconds.values) > 0 for outcome in found.values())
