"""A run and the version of its task: on record from the beginning, and nobody goes on with another one unnoticed."""

from pathlib import Path

import pytest

from lotteryfl.common.errors import LotteryFLError, TaskVersionError
from lotteryfl.common.experiment.experiment import validate
from lotteryfl.running.opened import opened_again, opened_new
from lotteryfl.server.results.verify import verify
from lotteryfl.server.rounds.codeversion import task_version
from lotteryfl.server.rounds.setup import create_run
from lotteryfl.server.store.rundir import RunDirectory

TASK = """
from torch import nn

def model():
    import own_shapes
    return nn.Linear(own_shapes.INPUTS, 2)

def client(k, experiment):
    raise NotImplementedError
"""


@pytest.fixture
def task(tmp_path: Path) -> str:
    (tmp_path / "own_shapes.py").write_text("INPUTS = 4\n")
    (tmp_path / "own_version.py").write_text(TASK)
    return str(tmp_path / "own_version.py")


@pytest.fixture
def run(tmp_path: Path, task: str) -> Path:
    experiment = validate({"task": {"name": task}}, "test")
    create_run(tmp_path / "run", experiment, (task,)).close()
    return tmp_path / "run"


def test_the_edited_task_is_refused_until_it_is_wanted(tmp_path: Path, task: str, run: Path) -> None:
    with opened_again(run, (task,)) as opened:
        assert set(task_version(opened.directory).files) == {"own_shapes.py", "own_version.py"}
    (tmp_path / "own_shapes.py").write_text("INPUTS = 4  # and no more\n")
    experiment = validate({"task": {"name": task}}, "test")
    for taken_up in (lambda: opened_again(run, (task,)), lambda: opened_new(experiment, run)):
        with pytest.raises(TaskVersionError) as caught, taken_up():
            pass
        assert str(caught.value) == (
            f"{run}: is the run of another version of task own_version: 'own_shapes.py' differs; "
            "--any-task-version goes on with this one"
        )
    with opened_again(run, (task,), any_task_version=True) as opened:
        assert opened.command("run").endswith(f"--task={task} --any-task-version")
    with opened_again(run, (task,)) as opened:
        assert "--any-task-version" not in opened.command("run"), "it is the run's now"
    assert verify(run).problems == 0


def test_a_run_from_before_is_bound_when_it_is_taken_up(tmp_path: Path, task: str, run: Path) -> None:
    with RunDirectory(run) as directory, directory.database.transaction():
        directory.database.put("task_versions", "")
    (tmp_path / "own_shapes.py").write_text("INPUTS = 4  # and no more\n")
    with opened_again(run, (task,)) as opened:
        assert task_version(opened.directory)
    (tmp_path / "own_shapes.py").write_text("INPUTS = 4\n")
    with pytest.raises(TaskVersionError), opened_again(run, (task,)):
        pass


@pytest.mark.parametrize("text", ["{", "7", "[7]", '[{"a.py": "x"}]'])
def test_a_record_that_is_damaged_is_named(text: str, task: str, run: Path) -> None:
    with RunDirectory(run) as directory, directory.database.transaction():
        directory.database.put("task_versions", text)
    with pytest.raises(LotteryFLError, match=r"run\.db: task_versions cannot be read: "), opened_again(run, (task,)):
        pass


def test_built_in_tasks_have_none(tmp_path: Path) -> None:
    with create_run(tmp_path / "run", validate({}, "test"), ()) as run:
        assert not task_version(run)
        assert run.database.get("task_versions") == ""
