"""Several strategies and seeds, each in a run directory of its own; what was interrupted goes on."""

import json
import os
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import lotteryfl
from tests.support.processes import Gate
from tests.support.runs import Expect, Start, Write, assert_same_bits, read_summary


def personalised(out: Path, label: str) -> NDArray[np.float64]:
    """Every client's accuracy in the last round, mean over seeds."""
    scores = []
    for seed in (7, 8):
        with lotteryfl.open_run(out / f"{label}-seed{seed}") as run:
            rows = run.metrics()
            rows = rows[(rows["round"] == rows["round"].max()) & (rows["phase"] == "personalised")]
            scores.append(rows.sort_values("client")["accuracy"].to_numpy())
    means: NDArray[np.float64] = np.mean(scores, axis=0)
    return means


COMPARE = ("--strategies", "fedavg,lotteryfl", "--seeds", "7,8", "--simulate", "--out", "cmp")
RUNS = ["fedavg-seed7", "lotteryfl-seed7", "fedavg-seed8", "lotteryfl-seed8"]


def test_all_runs_are_there_and_are_summed_up(tmp_path: Path, start: Start, write: Write, expect: Expect) -> None:
    path = write(strategy={"name": "standalone"})
    compared = start("compare", path, *COMPARE, "--jobs", 2, "--set", "lotteryfl:strategy.prune_rate=0.5")
    assert compared.exit_code() == 0, compared.stderr
    out = tmp_path / "cmp"
    assert sorted(entry.name for entry in out.iterdir() if entry.is_dir()) == sorted(RUNS)
    oracle = write(name="oracle.toml", seed=8, strategy={"name": "lotteryfl", "prune_rate": 0.5})
    assert_same_bits(out / "lotteryfl-seed8", expect(oracle))

    summaries = {name: read_summary(out / name) for name in RUNS}
    table = json.loads((out / "compare.json").read_text())
    rows = {row["label"]: row for row in table["strategies"]}
    assert list(rows) == ["fedavg", "lotteryfl"]
    for label, row in rows.items():
        mine = [summaries[f"{label}-seed{seed}"] for seed in (7, 8)]
        assert (row["seeds"], row["is_finished"], row["global_last"]) == ([7, 8], True, None)
        for key, value in (
            ("personalised_last", [s["accuracy"]["personalised_last"] for s in mine]),
            ("personalised_best", [s["accuracy"]["personalised_best"] for s in mine]),
            ("downloaded_last", [s["accuracy"]["downloaded_last"] for s in mine]),
            ("downloaded_best", [s["accuracy"]["downloaded_best"] for s in mine]),
            ("worst_decile", [s["accuracy"]["personalised_worst_decile"] for s in mine]),
            ("density", [s["density"]["mean"] for s in mine]),
            ("megabytes", [(s["bytes"]["down"] + s["bytes"]["up"]) / 1e6 for s in mine]),
        ):
            mean, half = sum(value) / 2, abs(value[0] - value[1]) / 2
            assert row[key] == pytest.approx({"mean": mean, "std": half}), (label, key)
    for phase in ("personalised", "downloaded"):
        best = max(row[f"{phase}_best"]["mean"] for row in rows.values())
        assert table["target_accuracies"][phase] == pytest.approx(0.9 * best)
    cells = (out / "compare.md").read_text().splitlines()[2].split("|")
    assert cells[1].strip() == "fedavg"
    assert cells[2].strip() == "{mean:.3f} ± {std:.3f}".format(**rows["fedavg"]["personalised_last"])
    assert "lotteryfl" in compared.stdout
    by_client = {label: personalised(out, label) for label in rows}
    apart = rows["lotteryfl"]["personalised_less_fedavg"]
    assert apart["mean"] == pytest.approx(np.mean(by_client["lotteryfl"] - by_client["fedavg"]))
    assert apart["low"] <= apart["mean"] <= apart["high"]
    assert "personalised, less fedavg's" in (out / "compare.md").read_text()

    again = start("compare", path, *COMPARE, "--set", "lotteryfl:strategy.prune_rate=0.5")
    assert again.exit_code() == 0
    assert (again.stdout, again.stderr) == (compared.stdout, "4 runs, 4 of them finished\n")

    other = start("compare", path, *COMPARE)
    assert other.exit_code() == 1
    told = "holds the run of another experiment (here strategy.prune_rate = 0.3, there 0.5): choose another --out"
    assert other.error_line == f"cmp/lotteryfl-seed7: {told}"


@pytest.mark.slow
def test_an_interrupted_comparison_goes_on(
    tmp_path: Path, start: Start, write: Write, gate: Gate, expect: Expect
) -> None:
    path = write()
    compared = start("compare", path, "--strategies=lotteryfl,fedavg", "--seeds=7", *COMPARE[4:], env=gate.env)
    gate.arrival().let_go()
    held = gate.arrival()
    compared.send(signal.SIGINT)
    assert compared.exit_code() == 130
    assert "Traceback" not in compared.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(held.pid, 0)
    gate.open()
    log = (tmp_path / "cmp" / "lotteryfl-seed7.log").read_text()
    assert "stopped; what was counted is kept" in log
    assert not (tmp_path / "cmp" / "fedavg-seed7").exists()

    (command,) = [line.partition("Go on with: ")[2] for line in compared.stderr.splitlines() if "Go on" in line]
    again = start(*shlex.split(command)[1:])
    assert again.exit_code() == 0, again.stderr
    assert_same_bits(tmp_path / "cmp" / "lotteryfl-seed7", expect(path))


@pytest.mark.slow
def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path, start: Start, write: Write) -> None:
    (tmp_path / "cmp" / "lotteryfl-seed7").mkdir(parents=True)
    (tmp_path / "cmp" / "lotteryfl-seed7" / "letter.txt").write_text("not a run")
    compared = start("compare", write(rounds=1), *COMPARE[:2], "--seeds=7", *COMPARE[4:])
    assert compared.exit_code() == 1
    assert "1 of 2 runs failed: lotteryfl-seed7: cmp/lotteryfl-seed7: is not empty" in compared.error_line
    table = json.loads((tmp_path / "cmp" / "compare.json").read_text())
    assert [(row["label"], row["seeds"]) for row in table["strategies"]] == [("fedavg", [7])]
    assert "fedavg" in compared.stdout


@pytest.mark.slow
def test_strategies_of_ones_own_are_compared_too(tmp_path: Path, start: Start, write: Write, expect: Expect) -> None:
    own = tmp_path / "own.py"
    own.write_text('from lotteryfl.server.strategies import FedAvg\n\nclass Mine(FedAvg):\n    name = "mine"\n')
    compared = start("compare", write(rounds=1), "--strategies=mine", "--seeds=7", *COMPARE[4:], "--strategy", own)
    assert compared.exit_code() == 0, compared.stderr
    expected = expect(write(name="oracle.toml", rounds=1, strategy={"name": "fedavg"}))
    assert read_summary(tmp_path / "cmp" / "mine-seed7")["model_sha256"] == expected["model_sha256"]


MISSING = """
from tests.support.gated_task import client as gated, model

def client(k, experiment):
    if k == 1:
        raise OSError("no disk")
    return gated(k, experiment)
"""


@pytest.mark.slow
def test_a_run_that_left_clients_out_counts_with_a_warning(tmp_path: Path, start: Start, write: Write) -> None:
    (tmp_path / "missing.py").write_text(MISSING)
    path = write(task={"name": "missing.py"}, rounds=1, clients_per_round=4)
    compared = start("compare", path, "--strategies=fedavg", "--seeds=7", "--simulate", "--out=cmp")
    assert compared.exit_code() == 0, compared.stderr
    assert "fedavg-seed7: warning: clients were left out of rounds, see cmp/fedavg-seed7.log" in compared.stderr
    assert "fedavg-seed7: finished" in compared.stderr
    report = start("report", "cmp")
    assert report.exit_code() == 0, report.stderr
    page = (tmp_path / "report" / "index.html").read_text()
    assert "fedavg-seed7: left out: client 1 of 2 rounds, the last 2: client 1 of task missing: client() failed" in page
