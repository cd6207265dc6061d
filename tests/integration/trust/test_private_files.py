"""Whoever reads a run's files knows what its coordinator knows: all of them are their owner's alone."""

import stat
from pathlib import Path

from tests.support.runs import Start, Write


def test_a_run_and_its_logs_are_nobody_elses(tmp_path: Path, start: Start, write: Write) -> None:
    run = start("run", write(rounds=1), "--workers", 1, "--run-dir", "run")
    run.said("round 1/1")
    assert run.exit_code() == 0, run.stderr
    found = [tmp_path / "run", *(tmp_path / "run").rglob("*")]
    modes = {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in found}
    assert modes == {str(path.relative_to(tmp_path)): 0o700 if path.is_dir() else 0o600 for path in found}
    names = {Path(name).name for name in modes}
    assert {"run.db", "run.lock", "experiment.toml", "summary.json", "worker-1.log", "round-0001.safetensors"} <= names
    verified = start("verify", "run")
    assert verified.exit_code() == 0
    assert "open to others" not in verified.stdout
