"""What of a run directory could go: said, removed when asked to, and missed by nobody afterwards."""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lotteryfl.common.errors import ExperimentError, LotteryFLError
from lotteryfl.program import program
from lotteryfl.server.results.ticket import export_global, export_ticket
from lotteryfl.server.results.verify import verify
from lotteryfl.server.store.rundir import RunDirectory, inspected
from lotteryfl.tending.clean import Rule, could_go, let_go
from tests.support.bench import Bench, tiny_experiment

Drive = Callable[..., Bench]

LEFT = {
    "results/r0001-c2-a1.7.safetensors": "nothing refers to it",
    "results/.r0001-c2-a1.safetensors.0123abcd.part": "being written when its process ended",
    "models/round-0009.safetensors": "nothing refers to it",
    f"masks/{'0' * 64}.safetensors": "nothing refers to it",
    ".summary.json.89abcdef.part": "being written when its process ended",
}


def cleaned(*arguments: object) -> Result:
    return CliRunner().invoke(program, ["clean", *map(str, arguments)])


def leave_behind(path: Path) -> int:
    """Put there what killed processes leave; return its bytes."""
    for number, name in enumerate(LEFT, start=1):
        (path / name).write_bytes(b"x" * number)
    return sum(range(1, len(LEFT) + 1))


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def aged(path: Path, *names: str) -> None:
    for name in names:
        os.utime(path / name, (time.time() - 100_000,) * 2)


def test_it_says_what_could_go_and_touches_nothing(finished_run: Path) -> None:
    nbytes = leave_behind(finished_run)
    before = files(finished_run)
    result = cleaned(finished_run)
    assert result.output.endswith(f"{nbytes} bytes could go; --yes removes it\n")
    for name, why in LEFT.items():
        assert f"  {name}: {why}\n" in result.output
    assert files(finished_run) == before


def test_what_it_removes_nobody_misses(finished_run: Path, tmp_path: Path) -> None:
    before = files(finished_run)
    nbytes = leave_behind(finished_run)
    result = cleaned(tmp_path, "--yes")
    assert result.output.endswith(f"{nbytes} bytes removed\n")
    assert files(finished_run) == before
    assert verify(finished_run).lines()
    assert (verify(finished_run).problems, verify(finished_run).leftovers) == (0, [])
    with inspected(finished_run) as run:
        export_global(run, tmp_path / "global.safetensors")
        for client in range(4):
            export_ticket(run, client, tmp_path / f"{client}.safetensors")
    assert cleaned(finished_run).output == f"{finished_run}: 0 files, 0 bytes\n0 bytes could go\n"


def test_an_interrupted_run_goes_on_to_the_same_bits(drive: Drive) -> None:
    bench, plain = drive(), drive(name="plain").finish()
    bench.do_all(bench.register())
    bench.commit()
    bench.submit(worker := bench.register(), bench.do(bench.take(worker)))
    bench.close()
    leave_behind(bench.path)
    assert let_go(bench.path, Rule()).nbytes > 0
    assert not any((bench.path / name).exists() for name in LEFT)
    assert bench.restart().finish().bits() == plain.bits()


def test_a_run_that_somebody_runs_is_left_alone(finished_run: Path) -> None:
    leave_behind(finished_run)
    with RunDirectory(finished_run):
        before = files(finished_run)
        result = cleaned(finished_run, "--yes")
        assert result.output == f"{finished_run}: left alone: is being run\n0 bytes removed\n"
        assert files(finished_run) == before
    assert cleaned(finished_run, "--yes").output.endswith("bytes removed\n")


def test_a_damaged_run_is_left_alone(finished_run: Path) -> None:
    with closing(sqlite3.connect(finished_run / "run.db")) as database, database:
        database.execute("UPDATE clients SET ticket = '' WHERE client = 1")
    before = files(finished_run)
    result = cleaned(finished_run, "--yes")
    assert result.output.startswith(f"{finished_run}: left alone: is damaged: `lotteryfl verify` names where\n")
    assert files(finished_run) == before


def test_kept_models_are_thinned_out_by_a_rule(drive: Drive) -> None:
    bench = drive(tiny_experiment(rounds=5, evaluation={"keep": "every 1", "keep_best": True})).finish()
    best = bench.run.best_round
    bench.close()
    assert could_go(bench.path, Rule()).removable == []
    result = cleaned(bench.path, "--keep", "every 2", "--yes")
    gone = {round_ for round_ in (1, 3) if round_ != best}
    assert all(f"the model of round {round_}, beyond --keep 'every 2'" in result.output for round_ in gone)
    there = {f"round-{round_:04d}.safetensors" for round_ in {0, 2, 4, 5, best or 0}}
    assert bench.files("models") == there
    assert (verify(bench.path).problems, verify(bench.path).leftovers) == (0, [])
    let_go(bench.path, Rule(keep="last"))
    assert bench.files("models") == {f"round-{round_:04d}.safetensors" for round_ in {0, 5, best or 0}}
    assert verify(bench.path).problems == 0


def test_only_what_is_old_goes_and_then_backups_too(finished_run: Path) -> None:
    leave_behind(finished_run)
    for name in ("run.db.bak", "experiment.toml~"):
        shutil.copy(finished_run / "experiment.toml", finished_run / name)
    (finished_run / "notes.txt").write_text("mine")
    old = ["results/r0001-c2-a1.7.safetensors", "run.db.bak"]
    aged(finished_run, *old, "notes.txt")
    assert {each.path.name for each in could_go(finished_run, Rule()).removable} == {Path(name).name for name in LEFT}
    result = cleaned(finished_run, "--older-than", "1d", "--yes")
    assert result.output.startswith(f"{finished_run}: 2 files, ")
    assert all(not (finished_run / name).exists() for name in old)
    assert (finished_run / "experiment.toml~").exists()
    assert (finished_run / "notes.txt").exists()


def test_a_set_up_that_was_never_finished_goes_whole(tmp_path: Path) -> None:
    path = tmp_path / "run"
    (path / "models").mkdir(parents=True)
    (path / ".setup").touch()
    (path / "models/round-0000.safetensors").write_bytes(b"x" * 100)
    assert "100 bytes  " in cleaned(path).output
    assert cleaned(path, "--yes").output.endswith("100 bytes removed\n")
    assert not path.exists()


@pytest.mark.parametrize("name", ["notes.txt", "src/main.py", "models/best.pt", "results/r0001-c0-a1.safetensors"])
def test_a_folder_with_anything_of_others_goes_by_no_mark(tmp_path: Path, name: str) -> None:
    path = tmp_path / "mine"
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).write_text("mine")
    (path / ".setup").touch()
    before = files(path)
    result = cleaned(tmp_path, "--yes")
    first = "src" if name.startswith("src") else name
    assert f"{path}: left alone: has {first}, which no set-up makes\n" in result.output
    assert files(path) == before


def test_a_set_up_with_a_link_to_elsewhere_is_left_alone(tmp_path: Path) -> None:
    (path := tmp_path / "run").mkdir()
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "round-0000.safetensors").write_text("mine")
    (path / ".setup").touch()
    (path / "models").symlink_to(elsewhere)
    assert f"{path}: left alone: has models, which no set-up makes\n" in cleaned(path, "--yes").output
    assert files(elsewhere) == {"round-0000.safetensors": b"mine"}


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert isinstance(error := cleaned(tmp_path, "--yes").exception, LotteryFLError)
    assert str(error) == f"{tmp_path}: is no run directory, and has none in it"
    assert (tmp_path / "file").exists()


@pytest.mark.parametrize("keep", ["all", "every 0"])
def test_what_is_no_rule_is_refused(finished_run: Path, keep: str) -> None:
    assert isinstance(error := cleaned(finished_run, "--keep", keep).exception, ExperimentError)
    assert str(error) == f"--keep {keep}: expected last, best or 'every N', as evaluation.keep"


@pytest.mark.parametrize("age", ["7", "d", "-1d", "7 days"])
def test_what_is_no_age_is_refused(finished_run: Path, age: str) -> None:
    result = cleaned(finished_run, f"--older-than={age}")
    assert (result.exit_code, "as 30m, 12h, 7d or 2w" in result.output) == (2, True)
