"""The checks that runs under faults are held to find what they are there for."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.cluster import Ack, History, Struck
from tests.chaos.promises import check_acknowledged, check_promises


def edited(run: Path, *statements: str) -> Path:
    copy = Path(shutil.copytree(run, run.with_name("edited")))
    with closing(sqlite3.connect(copy / "run.db")) as database, database:
        for statement in statements:
            database.execute(statement)
    return copy


def test_a_run_without_faults_keeps_all_promises(finished_run: Path) -> None:
    check_promises(finished_run, finished_run, [Ack(0.0, "simulate", "r3-c0-a1")])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE results SET density = density * 0.9 WHERE round = 1",
        "UPDATE results SET mask = upper(mask) WHERE round = 2",
        "UPDATE metrics SET loss = loss + 1 WHERE round = 1",
        "UPDATE assignments SET attempt = 2 WHERE round = 3",
        "UPDATE results SET file = replace(file, 'r3-', 'r2-') WHERE round = 3",
        "DELETE FROM metrics WHERE round = 1",
    ],
)
def test_another_history_is_found(finished_run: Path, statement: str) -> None:
    with pytest.raises(AssertionError):
        check_promises(edited(finished_run, statement), finished_run, [])


@pytest.mark.parametrize("ack", [Ack(0.0, "simulate", "r3-c0-a2"), Ack(0.0, "other", "r3-c0-a1")])
def test_an_acknowledged_result_that_is_not_the_one_that_counted_is_found(finished_run: Path, ack: Ack) -> None:
    with pytest.raises(AssertionError, match="acknowledged"):
        check_acknowledged(finished_run, [ack])


def test_recovery_is_measured_by_the_next_result_of_who_was_struck() -> None:
    history = History(
        faults=[Struck(1.0, "worker-1", "cut"), Struck(2.0, "coordinator", "kill"), Struck(9.0, "worker-2", "kill")],
        acks=[Ack(1.5, "worker-2", "r1-c0-a1"), Ack(4.0, "worker-1", "r1-c1-a1")],
    )
    assert [seconds for seconds, _ in history.recoveries(alone=False)] == [3.0, 2.0]
    assert [seconds for seconds, _ in history.recoveries(alone=True)] == [2.0]
