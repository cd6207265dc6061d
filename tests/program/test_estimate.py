"""What a run is said to take beforehand, against what it takes."""

import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from click.testing import CliRunner, Result

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.program import program
from tests.support.runs import GATED, read_summary


@pytest.fixture
def own_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def written(tmp_path: Path, **changes: Any) -> Path:
    table = {key: value | changes.get(key, {}) if isinstance(value, dict) else value for key, value in GATED.items()}
    path = tmp_path / "tiny.toml"
    path.write_text(
        tomli_w.dumps(
            table
            | {key: value for key, value in changes.items() if key not in table}
            | {key: value for key, value in changes.items() if not isinstance(value, dict)}
        )
    )
    return path


def run(command: str, path: Path, *options: str) -> Result:
    return CliRunner().invoke(program, [command, str(path), *options])


def lines_of(path: Path, *options: str) -> dict[str, tuple[float, float]]:
    result = run("estimate", path, "--json", *options)
    assert result.exit_code == 0, (result.output, result.exception)
    return {line["what"].strip(): (line["least"], line["most"]) for line in json.loads(result.output)["lines"]}


@pytest.mark.parametrize(
    "changes",
    [
        {"strategy": {"name": "fedavg"}},
        {},
        {"wire_dtype": "int8", "clients_per_round": 2, "rounds": 5},
        {"strategy": {"name": "feddst", "readjust_every": 1}},
        {"strategy": {"name": "ssfl"}},
        {"strategy": {"name": "fedselect", "personal_rate": 0.2}},
        {"strategy": {"name": "fedpm"}, "training": {"optimizer": "adam"}},
        {"strategy": {"name": "heterofl"}},
    ],
)
def test_the_bytes_are_those_that_the_run_then_moves(
    tmp_path: Path, own_temporary: Path, changes: dict[str, Any]
) -> None:
    path = written(tmp_path, **changes)
    said = lines_of(path)
    assert not list(own_temporary.glob("lotteryfl-*"))
    assert run("simulate", path, "--run-dir", str(tmp_path / "run")).exit_code == 0
    moved = read_summary(tmp_path / "run")["bytes"]
    down, up = said["a machine for each client"], said["bytes up"]
    # Every client of this task prunes whenever it may.
    assert moved["down"] == pytest.approx(down[0], rel=0.02)
    assert moved["up"] == pytest.approx(up[0], rel=0.02)
    files = sum(file.stat().st_size for file in (tmp_path / "run").rglob("*.safetensors"))
    assert files < said["disk at the end"][0] <= said["disk at its peak"][0]


def test_where_no_client_ever_prunes_is_the_most_that_a_run_moves(tmp_path: Path) -> None:
    path = written(tmp_path, strategy={"accuracy_threshold": 1.0}, training={"lr": 1e-9})
    down, up = (lines_of(path)[what] for what in ("a machine for each client", "bytes up"))
    assert run("simulate", path, "--run-dir", str(tmp_path / "run")).exit_code == 0
    moved = read_summary(tmp_path / "run")["bytes"]
    assert down[0] < down[1] == pytest.approx(moved["down"], rel=0.01)
    assert up[0] < up[1] == pytest.approx(moved["up"], rel=0.01)


def test_few_workers_are_sent_the_model_once_a_round(tmp_path: Path) -> None:
    path = written(tmp_path, clients=40, clients_per_round=40, strategy={"name": "fedavg"})
    said = [lines_of(path, f"--workers={workers}") for workers in (1, 4)]
    whole = said[0]["bytes down"][0]
    assert said[1]["bytes down"][0] == 4 * whole < said[1]["a machine for each client"][0]
    assert said[1]["time with 4 workers"] != said[0]["time with 1 workers"]


def test_the_table_says_what_was_done_and_what_each_line_assumes(tmp_path: Path) -> None:
    result = run("estimate", written(tmp_path))
    assert result.output.startswith("measured: client 1 in round 1, 24 training examples: ")
    assert "density 0.55 at the end where every client prunes" in " ".join(result.output.split())
    assert "memory of a worker" in result.output


def test_an_assignment_that_comes_to_nothing_is_named_and_nothing_is_left(tmp_path: Path, own_temporary: Path) -> None:
    task = tmp_path / "broken.py"
    task.write_text(
        "import torch\ndef model(): return torch.nn.Linear(2, 2)\ndef client(k, experiment): raise OSError('no disk')\n"
    )
    result = run("estimate", written(tmp_path, task={"name": str(task)}))
    assert isinstance(result.exception, LotteryFLError)
    assert "the assignment to be measured came to nothing: client 0 of task broken" in str(result.exception)
    assert "OSError: no disk" in str(result.exception)
    assert not list(own_temporary.glob("lotteryfl-*"))
