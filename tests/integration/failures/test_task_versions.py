"""Who has another version of a run's task, as a worker or to go on: the file is named, and it has to be wanted."""

import shutil
from pathlib import Path

import pytest

from lotteryfl.common.errors import TaskVersionError
from lotteryfl.running.opened import opened_again
from lotteryfl.running.owncode import OwnCode
from tests.support.processes import Gate, free_port
from tests.support.runs import Coordinate, Start, Write

TASK = """
from tests.support.gated_task import client as gated, model

def client(k, experiment):
    import own_rows
    return own_rows.of(gated(k, experiment))
"""
ROWS = "def of(parts):\n    return parts\n"
EDITED = f"{ROWS}# the same, but for this line\n"
LINE = "task own_task: this worker's version is not the coordinator's: {}; --any-task-version takes part all the same"


def files(folder: Path, rows: str = ROWS) -> Path:
    folder.mkdir()
    (folder / "own_rows.py").write_text(rows)
    (folder / "own_task.py").write_text(TASK)
    return folder / "own_task.py"


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Write the coordinator's task, of two files."""
    return files(tmp_path / "theirs")


def test_a_worker_with_another_version_names_the_file_and_leaves(
    tmp_path: Path, task: Path, start: Start, write: Write, coordinate: Coordinate
) -> None:
    """What differs is imported by nothing but a function, which the coordinator never calls."""
    server = coordinate(write(task={"name": str(task)}, rounds=1))
    work = ("work", "--coordinator", server.address, "--task")
    edited = start(*work, files(tmp_path / "edited", EDITED), "--name=edited")
    alone = files(tmp_path / "alone")
    (alone.parent / "own_rows.py").unlink()
    lacking = start(*work, alone, "--name=lacking")
    for worker, difference in ((edited, "'own_rows.py' differs"), (lacking, "there is no 'own_rows.py'")):
        assert worker.exit_code() == TaskVersionError.exit_code == 5
        assert worker.error_line == LINE.format(difference)
    wanted = start(*work, tmp_path / "edited" / "own_task.py", "--any-task-version", "--name=wanted")
    same = start(*work, shutil.copytree(task.parent, tmp_path / "copy") / task.name, "--name=same")
    for worker in (wanted, same):
        assert worker.exit_code() == 0, worker.stderr
    assert server.ended() == ""


@pytest.mark.slow
def test_local_workers_that_have_another_version_are_not_started_again(task: Path, start: Start, write: Write) -> None:
    """What lies beside their task is another thing for them than for the coordinator."""
    task.write_text(
        "import sys\nfrom pathlib import Path\nif sys.argv[1] == 'work':\n"
        f"    Path(__file__).with_name('own_rows.py').write_text({EDITED!r})\n{TASK}"
    )
    process = start("run", write(task={"name": str(task)}, rounds=1), "--workers=1", "--run-dir=run")
    assert process.exit_code() == 1
    reason = LINE.format("'own_rows.py' differs")
    assert process.error_line.startswith(f"the run failed: no worker is left: worker-1: {reason} (logs in ")
    assert "started again" not in process.stderr


@pytest.mark.slow
def test_a_run_goes_on_with_an_edited_task_only_where_that_is_wanted(
    tmp_path: Path, task: Path, start: Start, write: Write, gate: Gate
) -> None:
    path = write(task={"name": str(task)}, rounds=1)
    begun = start("run", path, "--workers=1", "--run-dir=run", env=gate.env)
    gate.arrival()
    begun.end()
    gate.open()
    (task.parent / "own_rows.py").write_text(EDITED)
    for command in (
        ("run", path, "--run-dir=run"),
        ("simulate", "run", "--task", task),
        ("serve", "run", "--task", task, "--listen=127.0.0.1:0"),
    ):
        process = start(*command)
        assert process.exit_code() == 5
        assert process.error_line == (
            "run: is the run of another version of task own_task: 'own_rows.py' differs; --any-task-version goes on "
            "with this one, another --run-dir begins anew"
        )
    wanted = start("run", "run", "--workers=1", "--task", task, "--any-task-version")
    assert wanted.exit_code() == 0, wanted.stderr
    with opened_again(tmp_path / "run", OwnCode((str(task),))) as opened:
        assert opened.is_finished


@pytest.mark.slow
def test_a_worker_learns_of_another_version_when_its_coordinator_is_started_anew(
    tmp_path: Path, task: Path, start: Start, write: Write, gate: Gate
) -> None:
    address = f"127.0.0.1:{free_port()}"
    own = shutil.copytree(task.parent, tmp_path / "own") / task.name
    before = start("serve", write(task={"name": str(task)}), "--listen", address, "--run-dir=run")
    before.said("listening at")
    worker = start("work", "--coordinator", address, "--task", own, env=gate.env)
    gate.arrival()
    before.end()
    (task.parent / "own_rows.py").write_text(EDITED)
    start("serve", "run", "--listen", address, "--task", task, "--any-task-version").said("listening at")
    gate.open()
    assert worker.exit_code() == 5
    assert worker.error_line == LINE.format("'own_rows.py' differs")
