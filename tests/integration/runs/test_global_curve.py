"""The shared model on global test data, and new clients: the same by one worker, three, in one process, killed."""

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import Expect, Start, Write, assert_same_bits

DIGITS: dict[str, Any] = {
    "seed": 5,
    "rounds": 3,
    "clients": 5,
    "clients_per_round": 3,
    "task": {"name": "digits", "model": "mlp"},
    "partition": {"kind": "n-class", "classes_per_client": 2, "examples_per_class": 10},
    "training": {"epochs": 2, "batch_size": 8, "lr": 0.1},
    "strategy": {"prune_rate": 0.4, "target_density": 0.5, "accuracy_threshold": 0.0},
    "evaluation": {"global_every": 2, "new_clients": 1},
    "round": {"broadcasts": False},
}


@pytest.mark.slow
def test_workers_one_process_and_a_run_that_was_killed_have_one_curve(
    tmp_path: Path, start: Start, write: Write, expect: Expect
) -> None:
    path = write(DIGITS)
    expected = expect(path)
    assert [(point["round"], point["examples"]) for point in expected["global_curve"]] == [(0, 450), (2, 450), (3, 450)]
    assert expected["new_clients"]["clients"] == 1
    runs = {
        "three": start("run", path, "--workers", 3, "--run-dir", "three"),
        "killed": start(
            *("run", path, "--workers", 1, "--run-dir", "killed"), env={"LOTTERYFL_FAULTS": "result-recorded:die@7"}
        ),
    }
    assert runs["three"].exit_code() == 0, runs["three"].stderr
    assert runs["killed"].exit_code() == -signal.SIGKILL
    again = start("run", "killed", "--workers", 1)
    assert again.exit_code() == 0, again.stderr
    for name in runs:
        assert_same_bits(tmp_path / name, expected)
    assert "shared model after round 2: accuracy 0." in runs["three"].stderr
    status = start("status", "three")
    assert status.exit_code() == 0
    assert "shared model after round 3: accuracy 0." in status.stdout
