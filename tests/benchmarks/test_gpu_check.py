"""`make gpu-check` where there is no card: its parts work in small, and its table is whole at any time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.__main__ import SECONDS
from benchmarks.gpu.parts import PARTS, rows_of, seconds_of, subject_of
from benchmarks.gpu.parts.branches import found_in
from benchmarks.gpu.report import write
from benchmarks.gpu.row import Row, check, from_line, same
from benchmarks.gpu.runs import Setting
from tests.support.paths import ROOT

DRY = Setting("cpu", quick=True)
MODULE = [sys.executable, "-m", "benchmarks.gpu"]


@pytest.mark.parametrize(
    "part", ["masks", "memory", pytest.param("stacked", marks=pytest.mark.slow), "transformer", "stages"]
)
def test_a_part_finds_something_and_all_of_it_holds(part: str) -> None:
    rows = list(rows_of(part, DRY))
    assert rows
    assert all(row.what and row.found for row in rows)
    assert not [row for row in rows if row.has_failed]
    assert [from_line(row.to_line()) for row in rows] == rows


def test_every_part_says_what_it_looks_at_and_all_fit_into_a_quarter_of_an_hour() -> None:
    assert all(subject_of(part) for part in PARTS)
    assert sum(map(seconds_of, PARTS)) <= SECONDS <= 900


def test_a_check_that_does_not_hold_is_told_from_a_goal_that_is_not_met() -> None:
    assert check("a", False).has_failed
    assert same("a", "one", "two") == Row("a", "one and two", False)
    assert not same("a", "one", "one").has_failed
    assert not Row("a", "3 s", False, "≤ 2 s").has_failed
    assert from_line("a part's own words\n") is None
    assert from_line("3") is None


def test_every_branch_that_asks_for_a_device_is_found() -> None:
    found = {(branch.file, branch.asks): branch for branch in found_in(ROOT)}
    source = (ROOT / "common/pruning/modeltensors.py").read_text(encoding="utf-8").splitlines()
    branch = found["common/pruning/modeltensors.py", "tensor.device.type != 'cpu'"]
    assert "tensor.add_(0)" in source[branch.device_line - 1]
    source = (ROOT / "common/transfer.py").read_text(encoding="utf-8").splitlines()
    early = found["common/transfer.py", "len(flat) == 1 or device.type != 'cuda'"]
    assert "pin_memory=True" in source[early.device_line - 1]


def test_the_table_has_every_part_whatever_has_been_done(tmp_path: Path) -> None:
    rows = [check("bits", True), check("masks", False), Row("steps", "9 s", False, "≤ 8 s"), Row("memory", "3 MiB")]
    write(tmp_path / "GPU.md", "a card", "a command", {"bits": rows, "keys": "not run: no time"}, is_card=True)
    text = (tmp_path / "GPU.md").read_text(encoding="utf-8")
    assert text.startswith("# On an accelerator\n\n`a command`, ")
    assert "1 of 2 checks do not hold; 0 of 1 goals are met." in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [f"## {p.capitalize()}" for p in PARTS]
    assert "Not run: no time." in text
    assert text.count("\nNot run.\n") == len(PARTS) - 2
    write(tmp_path / "GPU.md", "the CPU", "a command", {}, is_card=False)
    assert (tmp_path / "GPU.md").read_text(encoding="utf-8").startswith("# A dry run on the CPU: of an accelerator it")
    assert [path.name for path in tmp_path.iterdir()] == ["GPU.md"]


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
def test_without_a_card_it_ends_with_one_line(tmp_path: Path) -> None:
    command = [*MODULE, "--out", str(tmp_path / "GPU.md")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "gpu-check: torch finds no accelerator here; DEVICE=cpu QUICK=1 is a dry run on the CPU\n"
    assert not (tmp_path / "GPU.md").exists()


def test_killed_in_a_part_it_leaves_a_table_of_what_was_found(tmp_path: Path) -> None:
    table = tmp_path / "GPU.md"
    command = [*MODULE, "masks", "stages", "--device", "cpu", "--quick", "--out", str(table)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    assert first.startswith("masks: 20 k: masks of two prunings as on the CPU")
    text = table.read_text(encoding="utf-8")
    assert "# A dry run on the CPU" in text
    assert text.count("\n## ") == len(PARTS)


@pytest.mark.slow
def test_a_dry_run_of_all_of_it_holds(tmp_path: Path) -> None:
    table = tmp_path / "GPU.md"
    command = [*MODULE, "--device", "cpu", "--quick", "--out", str(table)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    text = table.read_text(encoding="utf-8")
    assert "\n0 of " in text
    assert "\nNot run.\n" not in text
