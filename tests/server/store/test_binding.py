"""What a run is bound to: its experiment cannot change unnoticed, and what it has done is never cleared."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.server.results.verify import verify
from lotteryfl.server.store.record import SETUP, RunRecord
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.bench import Bench, TinyTask, create, tiny_experiment
from tests.support.paths import ROOT

Drive = Callable[..., Bench]

FIXTURES = ROOT / "tests" / "fixtures"


def edit(run: Path, old: str, new: str) -> None:
    file = run / "experiment.toml"
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def contents(run: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def looks(run: Path) -> list[Callable[[], object]]:
    """All ways into a run directory, but `verify`."""
    return [
        lambda: RunDirectory(run).close(),
        lambda: RunDirectory(run, read_only=True).close(),
        lambda: RunRecord(run).close(),
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("lr = 0.1", "lr = 0.05", "training.lr = 0.05, expected 0.1 as run.db has it"),
        ("rounds = 2\n", "rounds = 9\n", "rounds = 9, expected 2 as run.db has it: .*, put it back; .* --set rounds=9"),
        ("seed = 0\n", "", None),
        ("lr = 0.1\n", "", None),
        ("seed = 0\n", "seed = 1\n", "seed = 1, expected 0 as"),
        ("clients = 4\n", "clients = 5\n", "clients = 5, expected 4 as"),
        ("clients = 4\n", "", "clients = 20, expected 4 as"),
    ],
)
def test_an_edited_experiment_is_named_and_nothing_changes(
    old: str, new: str, told: str | None, finished_run: Path
) -> None:
    """What is absent is at its default, and differs where the run has another value."""
    edit(finished_run, old, new)
    before = contents(finished_run)
    for look in looks(finished_run):
        if told is None:
            look()
        else:
            with pytest.raises(LotteryFLError, match=f"experiment.toml: {told}"):
                look()
    if told is not None:
        (line,) = [line for line in verify(finished_run).lines() if line.startswith("problem")]
        assert line.startswith("problem: experiment.toml: ")
        assert contents(finished_run) == before
    else:
        assert verify(finished_run).problems == 0


def test_an_emptied_experiment_is_named(finished_run: Path) -> None:
    (finished_run / "experiment.toml").write_text("")
    for look in looks(finished_run):
        with pytest.raises(LotteryFLError, match=r"experiment.toml: rounds = 30, expected 2 as run.db has it"):
            look()
    assert verify(finished_run).problems == 1


def test_what_is_this_machines_may_move(finished_run: Path) -> None:
    edit(finished_run, 'data_dir = ""', 'data_dir = "/mnt/data"')
    edit(finished_run, "max_refusals = 3", "max_refusals = 9")
    with RunDirectory(finished_run) as run:
        assert run.experiment.task.data_dir == "/mnt/data"
        assert run.experiment.checks.max_refusals == 9
    assert verify(finished_run).problems == 0


def test_an_earlier_versions_run_is_bound_when_it_is_first_taken_up(tmp_path: Path) -> None:
    path = Path(shutil.copytree(FIXTURES / "run-0.1", tmp_path / "run"))
    RunDirectory(path, read_only=True).close()
    RunRecord(path).close()
    assert verify(path).problems == 0
    with RunRecord(path) as looked:
        assert looked.database.get("experiment") == "", "who looks changes nothing"
    RunDirectory(path).close()
    edit(path, "seed = 7", "seed = 8")
    for look in looks(path):
        with pytest.raises(LotteryFLError, match=r"experiment.toml: seed = 8, expected 7"):
            look()


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("run-0.1", "clients = 5\n", "", "clients = 20, expected 5 as run.db has it"),
        ("run-0.1-finished", "rounds = 4\n", "rounds = 6\n", "rounds = 6: the run is finished with 5 rounds committed"),
        ("run-0.1", "rounds = 4\n", "rounds = 1\n", "rounds = 1: the run is not finished with 2 rounds committed"),
    ],
)
def test_an_earlier_versions_run_is_not_bound_to_what_it_belies(
    name: str, old: str, new: str, told: str, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(FIXTURES / name, tmp_path / "run"))
    edit(path, old, new)
    with pytest.raises(LotteryFLError, match=f"experiment.toml: {told}"):
        RunDirectory(path)
    with RunRecord(path) as looked:
        assert looked.database.get("experiment") == ""


def test_a_newer_versions_record_is_named(finished_run: Path) -> None:
    with RunDirectory(finished_run) as run:
        run.database.put("experiment", '{"novelty": 1}')
    for look in looks(finished_run):
        with pytest.raises(LotteryFLError, match=r"run.db: run, key 'experiment': unknown key novelty = 1; a newer"):
            look()


# -- nothing that was done is cleared


def test_results_are_not_cleared_where_the_database_is_lost(finished_run: Path) -> None:
    """Whatever the mark of a set-up says: run.db may be what has suffered."""
    (finished_run / SETUP).touch()
    for damage, told in ((b"", "is not empty"), (b"no database at all", "is not empty"), (None, "is not cleared")):
        (finished_run / "run.db").unlink()
        if damage is not None:
            (finished_run / "run.db").write_bytes(damage)
        before = contents(finished_run)
        with pytest.raises(LotteryFLError, match=told):
            create(finished_run, tiny_experiment(), TinyTask())
        assert contents(finished_run) == before
