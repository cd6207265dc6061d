"""What `make experiments` runs, what it does not run again, and that the page's tables are what the records say."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.experiments.parts import ROOT, done_keys, once, part_names, planned, read_part
from benchmarks.experiments.tables import PAGES, filled, fronts
from benchmarks.ownmethod.__main__ import DRAWS, part_text, path_of
from benchmarks.ownmethod.search import OUTPUT_LAYER, STRATEGIES, best, draws, read
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.records import read_record, read_records
from lotteryfl.records.cost import megabytes_to

PART = """
about = "two strategies"
records = "tiny"
experiment = "tiny.toml"
strategies = ["ssfl", "dense=fedavg"]
dense = ["dense"]
seconds = 1

[blocks]
"iid/density-0.5" = ["strategy.target_density=0.5"]
"iid/density-0.2" = ["strategy.target_density=0.2"]
"""
TINY = """
rounds = 1
clients = 3
clients_per_round = 3
[partition]
kind = "iid"
examples_per_client = 10
[training]
epochs = 1
[strategy]
name = "fedavg"
"""


def run(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "benchmarks.experiments", "--root", str(root), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "results" / "parts").mkdir(parents=True)
    (tmp_path / "results" / "parts" / "tiny.toml").write_text(PART)
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path


@pytest.mark.slow
def test_every_run_has_its_record_and_is_not_run_again(root: Path) -> None:
    first = run(root, "tiny")
    assert first.returncode == 0, first.stderr
    records = root / "results" / "records" / "tiny" / "iid"
    found = sorted(path.relative_to(records).as_posix() for path in records.rglob("*.json"))
    assert found == ["dense-seed0.json", "density-0.2/ssfl-seed0.json", "density-0.5/ssfl-seed0.json"]
    assert read_record(records / "density-0.2" / "ssfl-seed0.json").experiment.strategy.target_density == 0.2
    assert not any((root / "runs" / "experiments" / "tiny").rglob("run.db"))
    assert "3 of   3 runs done" in run(root).stdout

    (records / "density-0.5" / "ssfl-seed0.json").unlink()
    before = (records / "dense-seed0.json").stat().st_mtime_ns
    again = run(root, "tiny")
    assert again.stdout.count("finished") == 1
    assert (records / "dense-seed0.json").stat().st_mtime_ns == before
    assert (records / "density-0.5" / "ssfl-seed0.json").exists()


@pytest.mark.slow
def test_one_that_fails_is_told_and_stops_nobody(root: Path) -> None:
    path = root / "results" / "parts" / "tiny.toml"
    path.write_text(path.read_text().replace("seconds = 1", 'seconds = 1\nsettings = ["ssfl:evaluation.keep=best"]'))
    (root / "tiny.toml").write_text(TINY + "prunable = 'matrices'\npersonal = ['none.*']\n")
    found = run(root, "tiny")
    assert found.returncode == 1
    assert "of 3 runs failed" in found.stderr
    assert "Traceback" not in found.stderr
    assert run(root, "none").stderr.startswith("none: there is no such part: expected one of tiny")


def test_parts_are_sound_and_dense_strategies_run_once() -> None:
    for name in part_names():
        part = read_part(name)
        runs = planned(name, part)
        unique = list(once(runs, ()))
        assert len({run.cell.path for run in runs}) == len(runs)
        partitions = {block.rpartition("/")[0] or block for block in part.blocks}
        sparse = len(part.strategies) - len(part.dense)
        expected = sparse * len(part.blocks) + len(part.dense) * len(partitions)
        assert len(unique) == expected * len(part.seeds), name
        assert not list(once(runs, [run.key for run in runs]))
    with pytest.raises(LotteryFLError, match="there is no such part"):
        read_part("../pyproject")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_pages_tables_are_the_records(path: Path) -> None:
    page = path.read_text("utf-8")
    assert filled(page) == page, "run `make experiments-tables`"


def test_on_a_front_is_who_is_best_for_some_bytes() -> None:
    table = fronts("fashion: fedavg ssfl apfl balanced-ticket none")
    (row,) = (line for line in table.splitlines() if "dirichlet-0.3/density-0.5" in line)
    _, name, personalised, shared, _ = row.split("|")
    assert name.strip() == "fashion/dirichlet-0.3/density-0.5"
    assert [each.split("`")[1] for each in personalised.split(", ")] == ["ssfl", "balanced-ticket", "fedavg"]
    assert [each.split("`")[1] for each in shared.split(", ")] == [
        "ssfl",
        "balanced-ticket",
    ]  # worse for more: not on it
    assert fronts("nowhere: fedavg") == "Not run yet."


def test_the_parts_of_the_own_method_have_what_its_search_found_best() -> None:
    tried = read(DRAWS)
    for data in OUTPUT_LAYER:
        assert part_text(data, tried) == path_of(data).read_text("utf-8"), "run `python -m benchmarks.ownmethod`"
        for name in STRATEGIES:
            own = [each for each in tried if (each.data, each.strategy) == (data, name)]
            assert {each.draw for each in own} == set(draws())  # everybody the same
            assert max(own, key=lambda one: one.goal).draw == best(tried, data, name)


def test_bytes_to_a_score_are_those_until_the_first_round_that_has_it() -> None:
    record = next(iter(read_records([ROOT / "results" / "records"]).values()))
    target = record.rounds.personalised[10]
    first = next(at for at, score in enumerate(record.rounds.personalised) if score >= target)
    assert megabytes_to(record, "personalised", target) == record.rounds.sent[first] / 1e6
    assert megabytes_to(record, "personalised", 2.0) is megabytes_to(record, "shared", 2.0) is None
    assert done_keys(ROOT)
