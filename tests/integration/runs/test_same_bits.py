"""One experiment, one result: in one process, with one worker, with three; for every strategy and one's own task."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.runs import Expect, Start, Write, assert_same_bits, read_summary

EXAMPLES = ROOT / "examples"

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


def test_simulate_and_run_give_the_same_tickets(tmp_path: Path, start: Start, write: Write, expect: Expect) -> None:
    path = write(DIGITS)
    expected = expect(path)
    runs = {
        "one-process": start("simulate", path, "--run-dir", "one-process"),
        "one-worker": start("run", path, "--workers", 1, "--run-dir", "one-worker"),
    }
    for name, process in runs.items():
        assert process.exit_code() == 0, process.stderr
        assert_same_bits(tmp_path / name, expected)
    by_values = start("run", path, "--workers", 1, "--run-dir", "by-values", "--set", "round.broadcasts=false")
    assert by_values.exit_code() == 0, by_values.stderr
    assert_same_bits(tmp_path / "by-values", expected)
    bytes_down = {name: read_summary(tmp_path / name)["bytes"]["down"] for name in ("by-values", "one-worker")}
    assert bytes_down["one-worker"] < bytes_down["by-values"], "the model once, not the values of every client"
    assert 0.5 <= expected["density"]["mean"] < 0.6
    unrewound = expect(write(DIGITS, strategy={"rewind": "none"}))
    assert unrewound["model_sha256"] != expected["model_sha256"], "the experiment shows no rewinding"


@pytest.mark.parametrize(
    ("strategy", "workers", "wire_dtype", "rule"),
    [
        pytest.param("lotteryfl", 3, "int8", "mean", marks=pytest.mark.slow),
        ("fedavg", 2, "float32", "median"),
        pytest.param("standalone", 2, "bfloat16", "mean", marks=pytest.mark.slow),
    ],
)
def test_many_workers_give_the_same_bits_as_one_process(
    strategy: str, workers: int, wire_dtype: str, rule: str, tmp_path: Path, start: Start, write: Write, expect: Expect
) -> None:
    checks = {"max_update_norm": 0.5, "on_large_update": "clip"}
    path = write(DIGITS, strategy={"name": strategy}, wire_dtype=wire_dtype, aggregation={"rule": rule}, checks=checks)
    # Folders of the user's that are named like our packages do not get in the way.
    for name in ("client", "common", "server"):
        (tmp_path / "here" / name).mkdir(parents=True)
        (tmp_path / "here" / name / "__init__.py").write_text("raise SystemExit('the wrong package')")
    run = start("run", path, "--workers", workers, "--run-dir", "run", cwd=tmp_path / "here")
    assert run.exit_code() == 0, run.stderr
    expected = expect(path)
    assert_same_bits(tmp_path / "here" / "run", expected)
    assert (expected["density"]["mean"] < 1) == (strategy == "lotteryfl")


RECIPE: dict[str, Any] = {
    "steps": 7,
    "accumulate": 2,
    "optimizer": "NAdam",
    "optimizer_options": {"betas": [0.8, 0.95]},
    "lr": 0.01,
    "weight_decay": 0.01,
    "weight_decay_of": "matrices",
    "clip_grad_norm": 0.5,
    "label_smoothing": 0.1,
    "ema": 0.5,
    "augment": ["crop", "flip"],
    "precision": "bfloat16",
    "channels_last": True,
    "schedule": {"kind": "cosine"},
    "local_schedule": {"kind": "linear", "warmup": 2},
}


@pytest.mark.slow
def test_many_workers_follow_a_whole_recipe(tmp_path: Path, start: Start, write: Write, expect: Expect) -> None:
    path = write(DIGITS, task={"model": "lenet5"}, training=RECIPE)
    run = start("run", path, "--workers", 3, "--run-dir", "run")
    assert run.exit_code() == 0, run.stderr
    assert_same_bits(tmp_path / "run", expect(path))


def test_ones_own_task(tmp_path: Path, start: Start, write: Write, expect: Expect) -> None:
    """And what its log looks like."""
    example = tomllib.loads((EXAMPLES / "custom_task.toml").read_text())
    task = {"name": str(EXAMPLES / example["task"]["name"])}
    path = write(example, rounds=2, task=task, strategy={"accuracy_threshold": 0.0})
    run = start("run", path, "--workers", 1, "--run-dir", "run")
    assert run.exit_code() == 0, run.stderr
    expected = expect(path)
    assert expected["density"]["mean"] < 1
    assert_same_bits(tmp_path / "run", expected)
    lines = run.stderr.splitlines()
    assert [line.split(" clients, ")[0] for line in lines] == [
        "round 1/2: 10",
        "round 2/2: 10",
        "every client, once more: 10",
    ]
    assert "\x1b" not in run.stderr + run.stdout
