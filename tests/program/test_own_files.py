"""Only `lotteryfl` is installed: a user's own client.py, server.py, common/ and protos beside their work are theirs."""

import subprocess
import sys
from pathlib import Path

import pytest

import lotteryfl

ROOT = Path(__file__).parents[2]
SMALL = ["rounds=1", "clients=2", "clients_per_round=2", "training.epochs=1", "strategy.accuracy_threshold=0.0"]

SCRIPT = """
import client, common, protos, server
import lotteryfl
assert {each.OWNER for each in (client, common, protos, server)} == {"the user"}
experiment = lotteryfl.load_experiment(EXPERIMENT, SMALL)
with lotteryfl.run(experiment, "run", workers=1, device="cpu") as view:
    print(view.status().round)
assert client.OWNER == "the user"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory whose files have the names of lotteryfl's folders, and with a task that imports them."""
    for name in ("client", "server", "protos"):
        (tmp_path / f"{name}.py").write_text("OWNER = 'the user'\n")
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "__init__.py").write_text("OWNER = 'the user'\n")
    (tmp_path / "common" / "errors.py").write_text("raise RuntimeError('this is not what lotteryfl imports')\n")
    return tmp_path


def called(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("verb", ["simulate", pytest.param("run", marks=pytest.mark.slow)])
def test_commands_are_not_disturbed_by_them(folder: Path, verb: str) -> None:
    experiment = ROOT / "examples" / "digits.toml"
    settings = (f"--set={each}" for each in SMALL)
    process = called(folder, "-m", "lotteryfl", verb, experiment, "--run-dir=run", "--device=cpu", *settings)
    assert process.returncode == 0, process.stderr
    with lotteryfl.open_run(folder / "run") as view:
        assert view.status().state == view.status().FINISHED


@pytest.mark.slow
def test_a_script_has_its_own_and_ours(folder: Path) -> None:
    script = folder / "script.py"
    script.write_text(
        SCRIPT.replace("EXPERIMENT", repr(str(ROOT / "examples" / "digits.toml"))).replace("SMALL", repr(SMALL))
    )
    process = called(folder, script)
    assert (process.returncode, process.stdout) == (0, "1\n"), process.stderr


def test_a_task_may_import_what_lies_beside_it(folder: Path) -> None:
    """Where Python finds it: with `python -m lotteryfl` in the working directory."""
    task = (ROOT / "examples" / "custom_task.py").read_text()
    (folder / "task.py").write_text(
        f"{task}\nimport common\nfrom client import OWNER\n\nassert common.OWNER == OWNER\n"
    )
    (folder / "experiment.toml").write_text(
        (ROOT / "examples" / "custom_task.toml").read_text().replace("custom_task.py", "task.py")
    )
    settings = (f"--set={each}" for each in SMALL)
    process = called(folder, "-m", "lotteryfl", "simulate", "experiment.toml", "--device=cpu", *settings)
    assert process.returncode == 0, process.stderr
