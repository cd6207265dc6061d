"""`lotteryfl verify`: sound runs are found sound, whatever state they are in, and nothing is changed by looking."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.program import program
from lotteryfl.server.results import verify as verification
from lotteryfl.server.results.summary import write_summary
from lotteryfl.server.results.verify import verify
from lotteryfl.server.results.verify.report import MOST_KEPT
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.bench import Bench, simulated, tiny_experiment
from tests.support.damage import TICKET, edit, problems

Drive = Callable[..., Bench]


def content(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("strategy", "wire_dtype"),
    [("lotteryfl", "float32"), ("lotteryfl", "int8"), ("fedavg", "bfloat16"), ("standalone", "float32")],
)
def test_a_finished_run_is_sound_and_stays_as_it_is(tmp_path: Path, strategy: str, wire_dtype: str) -> None:
    experiment = tiny_experiment(rounds=3, strategy={"name": strategy}, wire_dtype=wire_dtype)
    with simulated(tmp_path / "run", experiment) as run:
        write_summary(run)
    before = content(run.path)
    report = verify(run.path)
    assert (report.problems, report.leftovers, report.skipped, report.is_being_run) == (0, [], [], False)
    looked_at = {group.name: group.looked_at for group in report.groups}
    assert looked_at["rounds"] == "4 committed, 0 open; 13 assignments, 13 results"
    assert looked_at["clients"] == "4, 4 with a ticket"
    assert looked_at["summary"].startswith("model, tickets")
    assert looked_at["models"].startswith(f"θ_0 and the model after round {0 if strategy == 'standalone' else 3}, ")
    assert content(run.path) == before


def test_a_run_is_sound_wherever_it_is_killed(tmp_path: Path, drive: Drive) -> None:
    """Also by the copy of its directory that a kill would leave, with what SQLite has not moved into run.db."""
    bench = drive()

    def check(state: str) -> None:
        report = verify(bench.path)
        assert (next(report.lines()), report.problems) == (
            "the run is being worked on: looking at what is committed",
            0,
        ), state
        copy = shutil.copytree(bench.path, tmp_path / state)
        assert (problems(copy), verify(copy).is_being_run) == ([], False), state

    worker = bench.register()
    check("opened")
    while bench.coordinator.round < 4:
        work = bench.take(worker)
        check(f"leased {work.assignment.assignment_id}")
        bench.submit(worker, bench.do(work))
        check(f"submitted {work.assignment.assignment_id}")
        if bench.coordinator.advance().name == "COMMIT":
            conclusion = bench.conclude()
            check(f"aggregated {bench.coordinator.round}")
            bench.coordinator.commit(conclusion)
            check(f"committed {bench.coordinator.round}")


def test_clients_that_were_too_late_are_no_fault(drive: Drive) -> None:
    bench = drive(tiny_experiment(round={"deadline": 5, "lease": 5, "max_attempts": 1}))
    worker = bench.register()
    bench.coordinator.release(worker, bench.take(worker).assignment.assignment_id, "cannot")
    bench.submit(worker, bench.do(bench.take(worker)))
    bench.take(worker)
    bench.now = 5.0
    bench.commit()
    states = {row.state for row in bench.run.database.assignments(1)}
    assert (states, problems(bench.path)) == ({"dropped", "done"}, [])


def test_a_failed_run_is_sound(drive: Drive) -> None:
    bench = drive(tiny_experiment(round={"max_attempts": 1, "retries": 0}))
    worker = bench.register()
    while work := bench.coordinator.lease(worker):
        bench.coordinator.release(worker, work.assignment.assignment_id, "cannot")
    bench.coordinator.advance()
    assert bench.run.state == "failed"
    assert problems(bench.path) == []


def test_what_a_commit_deletes_meanwhile_is_not_missed(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = drive()
    bench.do_all(bench.register())
    bench.commit()
    tickets = bench.files("results")
    monkeypatch.setitem(verification._RECORDS, "history", lambda group, run: bench.finish())
    assert problems(bench.path) == []
    assert not tickets & bench.files("results")
    (bench.path / bench.run.database.clients()[0].ticket).unlink()
    assert problems(bench.path) == [
        f"{bench.run.database.clients()[0].ticket}: cannot be read: No such file or directory"
    ]


def test_a_run_that_is_taken_up_meanwhile_is_not_judged(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[RunDirectory] = []
    monkeypatch.setitem(verification._RECORDS, "history", lambda group, run: opened.append(RunDirectory(finished_run)))
    with pytest.raises(LotteryFLError, match="was taken up while it was looked at; verify it again"):
        verify(finished_run)
    opened[0].close()


def test_what_nothing_refers_to_is_harmless(finished_run: Path) -> None:
    (finished_run / "logs").mkdir()  # of local workers
    names = ["results/.r3-c0-a1.safetensors.0a1b2c3d.part", f"masks/{'0' * 64}.safetensors", "notes.txt"]
    for name in names:
        (finished_run / name).write_text("x")
    report = verify(finished_run)
    assert (report.leftovers, report.problems) == (sorted(names), 0)
    assert "left over, harmless: notes.txt" in report.lines()


# -- the command


def test_the_command_says_what_it_looked_at(finished_run: Path) -> None:
    (finished_run / "\x1b[31m").touch()
    result = CliRunner().invoke(program, ["verify", str(finished_run)], standalone_mode=False)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].startswith("ok  database: ")
    assert "ok  rounds: 3 committed, 0 open; 10 assignments, 10 results" in lines
    assert lines[-2:] == ["left over, harmless: ?[31m", "sound"]


def test_a_run_that_others_can_read_is_named_and_sound(finished_run: Path) -> None:
    """As runs of earlier versions are; a folder that nobody else may enter keeps what is in it."""
    finished_run.chmod(0o700)
    (finished_run / "experiment.toml").chmod(0o644)
    assert not verify(finished_run).is_open
    finished_run.chmod(0o755)
    result = CliRunner().invoke(program, ["verify", str(finished_run)], standalone_mode=False)
    assert result.exit_code == 0
    *_, said, conclusion = result.output.splitlines()
    assert conclusion == "sound"
    assert said.startswith("open to others of this machine (mode 0755, expected 0700), who learn what it knows: ")
    assert said.endswith(f": chmod -R go= {finished_run}")
    (finished_run / "experiment.toml").chmod(0o600)
    assert not verify(finished_run).is_open
    (finished_run / "masks").chmod(0o750)
    assert not verify(finished_run).is_open
    next((finished_run / "masks").iterdir()).chmod(0o640)
    assert verify(finished_run).is_open


def test_the_command_fails_with_the_number_of_problems(finished_run: Path) -> None:
    (finished_run / TICKET).unlink()
    (finished_run / "summary.json").unlink()
    result = CliRunner().invoke(program, ["verify", str(finished_run)], standalone_mode=False)
    assert isinstance(result.exception, LotteryFLError)
    assert str(result.exception) == f"{finished_run}: 1 problem"
    assert f"problem: {TICKET}: cannot be read: No such file or directory" in result.output.splitlines()


def test_of_many_problems_the_first_are_named_and_all_are_counted(finished_run: Path) -> None:
    edit(finished_run, "UPDATE metrics SET client = client + 100 * round")
    edit(finished_run, "INSERT INTO metrics SELECT round, client + 10, phase, 1, 0, 0, 0, 0, 0, 0, 0 FROM metrics")
    edit(finished_run, "INSERT INTO metrics SELECT round, client + 20, phase, 1, 0, 0, 0, 0, 0, 0, 0 FROM metrics")
    report = verify(finished_run)
    lines = list(report.lines())
    assert sum(line.startswith("problem: run.db: metrics: ") for line in lines) == MOST_KEPT
    assert f"problem: references: {report.problems - MOST_KEPT} more" in lines


def test_a_folder_that_is_no_run_is_one_line(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(LotteryFLError, match=r"is no run directory: it has no run\.db"):
            verify(folder)


def test_nothing_is_called_a_leftover_of_a_run_that_is_damaged(finished_run: Path) -> None:
    """What is in use could not be told from it."""
    edit(finished_run, "UPDATE clients SET ticket = '' WHERE client = 0")
    report = verify(finished_run)
    assert (report.problems, report.leftovers) == (1, [])
