"""Who holds what, said by a file: the same for every process of a run."""

import json
from pathlib import Path

import pytest

from tests.support.runs import Coordinate, Expect, Start, Write, assert_same_bits, read_summary

DIGITS = {"seed": 3, "rounds": 1, "clients": 2, "clients_per_round": 2, "training": {"epochs": 1}}


@pytest.mark.slow
def test_processes_read_what_the_coordinator_has(
    tmp_path: Path, start: Start, write: Write, expect: Expect, coordinate: Coordinate
) -> None:
    (tmp_path / "who.json").write_text(json.dumps([list(range(60)), list(range(60, 90))]))
    path = write(DIGITS, partition={"kind": "file", "file": "who.json"})
    run = start("run", path, "--workers", 1, "--run-dir", "run")
    assert run.exit_code() == 0, run.stderr
    assert_same_bits(tmp_path / "run", expect(path))
    assert len(read_summary(tmp_path / "run")["partition_sha256"]) == 64

    coordinator = coordinate(
        write(DIGITS, partition={"kind": "file", "file": "who.json"}, round={"retries": 0, "max_attempts": 1})
    )
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "who.json").write_text(json.dumps([[1, 2, 3], [4, 5, 6]]))
    other = start("work", "--coordinator", coordinator.address, "--data-dir", "elsewhere")
    assert "elsewhere/who.json: its SHA-256 is" in coordinator.ended()
    other.exit_code()
