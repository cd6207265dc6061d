"""`status` and `export` of a damaged run directory, as one from elsewhere may be: a line that says so."""

# ruff: noqa: S608 - every query is our own

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lotteryfl.commands.inspect import export, status
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.damage import TICKET, edit


def put(key: str, value: str) -> Callable[[Path], None]:
    return lambda path: edit(path, f"INSERT OR REPLACE INTO run VALUES ('{key}', {value})")


def _overwritten(path: Path) -> None:
    """Leave SQLite's header and tables, and lose the rows' pages."""
    file = path / "run.db"
    file.write_bytes(file.read_bytes()[:8192] + b"\xa5" * (file.stat().st_size - 8192))


UNTOLD = {
    "state": put("state", "'lost'"),
    "text that is none": put("state", "CAST(x'ff' AS TEXT)"),
    "traffic": put("shared_bytes_down", "'x'"),
    "traffic below zero": lambda path: edit(path, "UPDATE assignments SET bytes_up = -1"),
    "traffic beyond all sums": lambda path: edit(path, f"UPDATE assignments SET bytes_up = {2**63 - 1}"),
    "a plan": lambda path: edit(
        path, "UPDATE rounds SET state = 'open' WHERE round = 3", "UPDATE assignments SET plan = x'ff'"
    ),
    "pages": _overwritten,
}

UNREAD = {
    "ticket, gone": lambda path: (path / TICKET).unlink(),
    "ticket, a folder": lambda path: ((path / TICKET).unlink(), (path / TICKET).mkdir()),
    "ticket, elsewhere": lambda path: edit(path, "UPDATE clients SET ticket = 'a' || char(0) || 'b'"),
    "mask, gone": lambda path: edit(path, "UPDATE clients SET mask = 'x'"),
    "clients, text that is none": lambda path: edit(path, "UPDATE clients SET ticket = CAST(x'ff' AS TEXT)"),
    "model_round": lambda path: (edit(path, "UPDATE clients SET ticket = ''"), put("model_round", "'-'")(path)),
}


def called(*arguments: object) -> Result:
    command, *rest = arguments
    return CliRunner().invoke(command, [str(argument) for argument in rest])  # type: ignore[arg-type]


def is_told(result: Result, path: Path) -> bool:
    return isinstance(result.exception, LotteryFLError) and str(result.exception).startswith(f"{path}")


@pytest.mark.parametrize("damage", UNTOLD)
def test_status_of_a_damaged_run_says_that_it_is(finished_run: Path, damage: str) -> None:
    assert called(status, finished_run).exit_code == 0
    UNTOLD[damage](finished_run)
    assert is_told(called(status, finished_run), finished_run)


@pytest.mark.parametrize("damage", UNREAD)
def test_export_of_a_damaged_run_says_that_it_is(finished_run: Path, tmp_path: Path, damage: str) -> None:
    ticket = (export, finished_run, "--client", 0, "--out", tmp_path / "ticket.safetensors")
    assert called(*ticket).exit_code == 0
    UNREAD[damage](finished_run)
    assert is_told(called(*ticket), finished_run)


def test_a_run_whose_table_cannot_be_read_is_named(finished_run: Path) -> None:
    edit(finished_run, "UPDATE run SET value = CAST(x'ff' AS TEXT) WHERE key = 'table'")
    with pytest.raises(LotteryFLError, match=r"run\.db: cannot be read: Could not decode to UTF-8"):
        RunDirectory(finished_run)


def test_a_database_whose_tables_have_names_that_are_no_text_is_named(finished_run: Path) -> None:
    file = finished_run / "run.db"
    file.write_bytes(file.read_bytes().replace(b"CREATE TABLE metrics", b"CREATE TABLE metri\xff\xff"))
    with pytest.raises(LotteryFLError, match=r"run\.db: cannot be used as a run database"):
        Database(file, read_only=True)


def test_a_run_that_could_not_be_opened_is_let_go(finished_run: Path) -> None:
    experiment = (finished_run / "experiment.toml").read_bytes()
    (finished_run / "experiment.toml").write_text("rounds =")
    with pytest.raises(LotteryFLError, match="not valid TOML") as caught:
        RunDirectory(finished_run)
    (finished_run / "experiment.toml").write_bytes(experiment)
    with RunDirectory(finished_run):
        assert caught.value.__traceback__, "which holds what the constructor had"
