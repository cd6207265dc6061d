"""Runs with coded masks over gRPC: the bits of one without, and fewer bytes; a worker that cannot code leaves."""

import os
from pathlib import Path
from typing import Any

import pytest

from lotteryfl.server.results.verify import verify
from tests.support.paths import ROOT
from tests.support.runs import Coordinate, Expect, Start, Write, assert_same_bits, read_summary

pytest.importorskip("constriction")

DIGITS: dict[str, Any] = {
    "seed": 5,
    "rounds": 2,
    "clients": 4,
    "clients_per_round": 3,
    "partition": {"kind": "n-class", "classes_per_client": 2, "examples_per_class": 5},
    "training": {"epochs": 2, "batch_size": 8, "lr": 0.1},
    "strategy": {"prune_rate": 0.8, "target_density": 0.01, "accuracy_threshold": 0.0},
}
"""A mask comes back whole, with a fifth of its bits set, and then over what was kept, with a fifth of these."""


@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_coded_masks_leave_a_runs_bits_as_they_are(
    workers: int, tmp_path: Path, start: Start, write: Write, expect: Expect
) -> None:
    expected = expect(write(DIGITS))
    run = start("run", write(DIGITS, mask_coding="ans"), "--workers", workers, "--run-dir", "run")
    assert run.exit_code() == 0, run.stderr
    assert_same_bits(tmp_path / "run", expected)
    assert verify(tmp_path / "run").problems == 0
    assert read_summary(tmp_path / "run")["bytes"]["up"] < expected["bytes"]["up"], "and that is without frames"


def test_who_cannot_code_says_so_before_any_work(
    tmp_path: Path, start: Start, write: Write, coordinate: Coordinate
) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "sitecustomize.py").write_text("import sys\nsys.modules['constriction'] = None\n")
    path = write(DIGITS, mask_coding="ans")
    server = coordinate(path)
    without = {"PYTHONPATH": f"{tmp_path / 'without'}{os.pathsep}{ROOT}"}
    processes = [
        start("work", "--coordinator", server.address, env=without),
        start("simulate", path, "--run-dir", "run", env=without),
        start("verify", tmp_path / "served", env=without),
    ]
    for process in processes:
        assert process.exit_code() == 1, process.stderr
        assert process.error_line == (
            "mask_coding = 'ans': constriction is not installed here: pip install 'lotteryfl[coding]', or choose packed"
        )
    assert not (tmp_path / "run").exists()
