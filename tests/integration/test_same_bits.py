"""One experiment, one result: in one process, with one worker, with three; for every strategy and one's own task."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Expect, Start, Write

EXAMPLES = Path(__file__).parents[2] / "examples"

DIGITS: dict[str, Any] = {
    "seed": 3,
    "rounds": 3,
    "clients": 4,
    "clients_per_round": 3,
    "task": {"name": "digits", "model": "mlp"},
    "partition": {"kind": "n-class", "classes_per_client": 2, "examples_per_class": 10},
    "training": {"epochs": 2, "batch_size": 8, "lr": 0.1},
    "strategy": {"prune_rate": 0.4, "target_density": 0.5, "accuracy_threshold": 0.0},
}


def summary(folder: Path) -> dict[str, Any]:
    text: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return text


def test_simulate_and_run_give_the_same_tickets(tmp_path: Path, start: Start, write: Write, expect: Expect) -> None:
    path = write(DIGITS)
    expected = expect(path)
    runs = {
        "one-process": start("simulate", path, "--run-dir", "one-process"),
        "one-worker": start("run", path, "--workers", 1, "--run-dir", "one-worker"),
    }
    for name, process in runs.items():
        assert process.exit_code() == 0, process.stderr
        assert summary(tmp_path / name)["model_sha256"] == expected["model_sha256"]
        assert summary(tmp_path / name)["tickets_sha256"] == expected["tickets_sha256"]
    assert 0.5 <= expected["density"]["mean"] < 0.6
    unrewound = expect(write(DIGITS, strategy={"rewind": "none"}))
    assert unrewound["model_sha256"] != expected["model_sha256"], "the experiment shows no rewinding"


@pytest.mark.parametrize(("strategy", "workers"), [("lotteryfl", 3), ("fedavg", 2), ("standalone", 2)])
def test_many_workers_give_the_same_bits_as_one_process(
    strategy: str, workers: int, tmp_path: Path, start: Start, write: Write, expect: Expect
) -> None:
    path = write(DIGITS, strategy={"name": strategy})
    # Folders of the user's that are named like our packages do not get in the way.
    for name in ("client", "common", "server"):
        (tmp_path / "here" / name).mkdir(parents=True)
        (tmp_path / "here" / name / "__init__.py").write_text("raise SystemExit('the wrong package')")
    run = start("run", path, "--workers", workers, "--run-dir", "run", cwd=tmp_path / "here")
    assert run.exit_code() == 0, run.stderr
    expected, found = expect(path), summary(tmp_path / "here" / "run")
    for key in ("model_sha256", "tickets_sha256", "accuracy", "density"):
        assert found[key] == expected[key], key  # type: ignore[literal-required]
    assert (found["density"]["mean"] < 1) == (strategy == "lotteryfl")


def test_ones_own_task_over_grpc_without_a_fork(tmp_path: Path, start: Start, write: Write, expect: Expect) -> None:
    """And what a log of it looks like."""
    path = EXAMPLES / "custom_task.toml"
    forks = tmp_path / "forks"
    gated = start("run", write(), "--workers", 1, "--run-dir", "gated", env={"FORKS": str(forks)})
    short = ("--set", "rounds=2", "--set", "strategy.accuracy_threshold=0.0")
    own = start("run", path, *short, "--run-dir", "own")
    alone = start("simulate", path, *short, "--run-dir", "alone")
    for process in (gated, own, alone):
        assert process.exit_code() == 0, process.stderr
    assert summary(tmp_path / "own")["tickets_sha256"] == summary(tmp_path / "alone")["tickets_sha256"]
    assert summary(tmp_path / "own")["model_sha256"] == summary(tmp_path / "alone")["model_sha256"]
    assert summary(tmp_path / "own")["density"]["mean"] < 1

    assert summary(tmp_path / "gated")["tickets_sha256"] == expect(write())["tickets_sha256"]
    assert forks.read_bytes() == b""
    lines = gated.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "round 1/3",
        "round 2/3",
        "round 3/3",
        "every client, once more",
    ]
    assert lines[-1].startswith("every client, once more: 4 clients, accuracy 0.")
    assert "\x1b" not in gated.stderr + gated.stdout
