"""Privacy over real processes: bounded updates keep their bits, noise keeps its account."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import Expect, Start, Write, assert_same_bits, read_summary

DIGITS: dict[str, Any] = {
    "rounds": 2,
    "clients": 4,
    "clients_per_round": 3,
    "partition": {"classes_per_client": 2, "examples_per_class": 10},
    "training": {"epochs": 1, "batch_size": 8, "lr": 0.1},
    "strategy": {"prune_rate": 0.4, "target_density": 0.5, "accuracy_threshold": 0.0},
}


@pytest.mark.slow  # what clipping does is in tests/server/privacy/test_privacy.py
def test_clipped_updates_are_the_same_bits_in_one_process_and_in_many(
    tmp_path: Path, start: Start, write: Write, expect: Expect
) -> None:
    path = write(DIGITS, privacy={"clip_norm": 0.05})
    run = start("run", path, "--workers", 2, "--run-dir", "run")
    assert run.exit_code() == 0, run.stderr
    expected = expect(path)
    assert_same_bits(tmp_path / "run", expected)
    assert expected["model_sha256"] != expect(write(DIGITS))["model_sha256"], "the experiment shows no clipping"


@pytest.mark.slow
def test_a_run_tells_what_it_has_spent_and_no_secret(tmp_path: Path, start: Start, write: Write) -> None:
    path = write(DIGITS, privacy={"dp_sgd": True, "delta": 1e-3})
    run = start("run", path, "--workers", 2, "--run-dir", "run")
    assert run.exit_code() == 0, run.stderr
    privacy = read_summary(tmp_path / "run")["privacy"]
    assert privacy is not None
    assert privacy["protects"] == "example"
    status = start("status", "run")
    assert status.exit_code() == 0
    assert f"ε {privacy['epsilon']:.3g} (δ 0.001)" in status.stdout
    logs = "".join(log.read_text() for log in (tmp_path / "run" / "logs").iterdir())
    assert "Warning" not in logs
    verified = start("verify", "run")
    assert verified.exit_code() == 0, verified.stdout
