"""Older versions of run.db: taken to the newest step by step, read without being changed, or named."""

import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundb.events import Event, NewEvent, add_events, newest_events
from lotteryfl.server.store.rundb.migrations import MIGRATIONS, RUN_DB, Migration, Versions
from lotteryfl.server.store.rundb.schema import OLDEST_VERSION, SCHEMA, SCHEMA_VERSION
from tests.support.paths import ROOT

FIXTURES = ROOT / "tests" / "fixtures"
OLD = OLDEST_VERSION
EVENTS_SINCE = 11

# Two versions that never were: one adds a column, the other puts a new table in the place of one that others refer to.
NEWEST = SCHEMA.replace(
    "    ticket TEXT NOT NULL DEFAULT '' ", "    ticket TEXT NOT NULL DEFAULT '', home TEXT NOT NULL DEFAULT '' "
).replace("    seconds REAL,\n", "    seconds REAL,\n    workers INTEGER NOT NULL DEFAULT 0,  -- who took part\n")
ROUNDS = re.search(r"CREATE TABLE rounds \(.*?\n\) STRICT", NEWEST, re.DOTALL)
COLUMNS = "round, state, opened_at, committed_at, seconds, retries, reason, epsilon, delta"


def add_homes(connection: sqlite3.Connection) -> None:
    for migration in MIGRATIONS:
        migration.apply(connection)
    connection.execute("ALTER TABLE clients ADD COLUMN home TEXT NOT NULL DEFAULT ''")
    connection.execute("UPDATE clients SET home = 'worker of ' || client")


def count_workers(connection: sqlite3.Connection) -> None:
    assert ROUNDS
    connection.execute(ROUNDS[0].replace("TABLE rounds", "TABLE new_rounds"))
    connection.execute(
        f"INSERT INTO new_rounds ({COLUMNS}, workers) SELECT {COLUMNS}, "  # noqa: S608
        "(SELECT count(DISTINCT worker) FROM assignments a WHERE a.round = rounds.round AND worker != '') FROM rounds"
    )
    connection.execute("DROP TABLE rounds")
    connection.execute("ALTER TABLE new_rounds RENAME TO rounds")


def versions(
    first: Callable[[sqlite3.Connection], object] = add_homes,
    second: Callable[[sqlite3.Connection], object] = count_workers,
) -> Versions:
    return Versions(NEWEST, OLD, OLD + 2, (Migration(OLD + 1, first), Migration(OLD + 2, second)))


def has_stopped(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM clients")
    connection.execute("INSERT INTO no_table VALUES (1)")


def version_in(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.suffix != ".db-shm"}


@pytest.fixture(params=["run-0.1", "run-0.1-finished"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Of the oldest version: as a process that was killed left it, and closed."""
    return Path(shutil.copytree(FIXTURES / request.param, tmp_path / "run")) / "run.db"


def check_newest(database: Database) -> None:
    homes = list(database.select("SELECT home FROM clients ORDER BY client"))
    assert homes == [(f"worker of {client}",) for client in range(5)]
    assert list(database.select("SELECT workers FROM rounds ORDER BY round"))[:2] == [(1,), (2,)]
    assert list(database.select("PRAGMA foreign_key_check")) == []
    assert len(database.assignments(1)) == 4


def test_an_older_version_is_taken_to_the_newest_step_by_step(path: Path) -> None:
    seen: list[tuple[str, int]] = []

    def noting(name: str, step: Callable[[sqlite3.Connection], object]) -> Callable[[sqlite3.Connection], object]:
        def noted(connection: sqlite3.Connection) -> None:
            seen.append((name, connection.execute("PRAGMA user_version").fetchone()[0]))
            step(connection)

        return noted

    steps = versions(noting("homes", add_homes), noting("workers", count_workers))
    for _ in range(2):
        with closing(Database(path, versions=steps)) as database:
            check_newest(database)
            with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
                database.select("INSERT INTO results SELECT 98, client, 1, '', '', 1, 1, 1, 1 FROM clients")
    assert seen == [("homes", OLD), ("workers", OLD + 1)]
    assert version_in(path) == OLD + 2


def test_a_new_database_is_of_the_newest_version_at_once(tmp_path: Path) -> None:
    def never(_: sqlite3.Connection) -> None:
        raise AssertionError

    with closing(Database(tmp_path / "run.db", versions=versions(never, never))) as database:
        assert database.clients() == []
    assert version_in(tmp_path / "run.db") == OLD + 2


def test_a_step_that_fails_leaves_the_version_before(path: Path) -> None:
    what = rf"run\.db: cannot be taken from version {OLD} to {OLD + 2}: no such table: no_table"
    with pytest.raises(LotteryFLError, match=what):
        Database(path, versions=versions(second=has_stopped))
    assert version_in(path) == OLD + 1
    with closing(Database(path, versions=versions())) as database:
        check_newest(database)


def test_a_process_that_dies_in_a_step_leaves_the_version_before(path: Path, tmp_path: Path) -> None:
    def dies(connection: sqlite3.Connection) -> None:
        count_workers(connection)
        shutil.copytree(path.parent, tmp_path / "left")  # what is on disk when it is killed here

    Database(path, versions=versions(second=dies)).close()
    left = tmp_path / "left" / "run.db"
    assert version_in(left) == OLD + 1
    with closing(Database(left, versions=versions())) as database:
        check_newest(database)


def test_a_reader_sees_the_newest_tables_and_changes_nothing(path: Path) -> None:
    before = contents(path.parent)
    with closing(Database(path, read_only=True, versions=versions())) as reader:
        with reader.snapshot():
            check_newest(reader)
            assert list(reader.select("PRAGMA integrity_check")) == [("ok",)]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.put("state", "failed")
    assert contents(path.parent) == before
    with closing(Database(path, read_only=True)) as reader:
        assert len(reader.clients()) == 5


def test_a_reader_of_an_older_version_sees_what_was_committed_when_it_was_opened(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:  # as an older program: of its version
        ((state,),) = writer.execute("SELECT value FROM run WHERE key = 'state'")
        with closing(Database(path, read_only=True, versions=versions())) as reader:
            writer.execute("UPDATE run SET value = 'failed' WHERE key = 'state'")
            assert reader.get("state") == state
        with closing(Database(path, read_only=True, versions=versions())) as reader:
            assert reader.get("state") == "failed"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (OLD + 3, f"is of version {OLD + 3}; this program reads {OLD} to {OLD + 2}: a newer lotteryfl wrote it"),
        (OLD - 1, f"is of version {OLD - 1}; this program reads {OLD} to {OLD + 2}: it was made before lotteryfl 0.1"),
    ],
)
@pytest.mark.parametrize("read_only", [True, False])
def test_a_version_that_is_not_read_is_named_and_left_alone(
    path: Path, version: int, expected: str, *, read_only: bool
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = contents(path.parent)
    with pytest.raises(LotteryFLError) as caught:
        Database(path, read_only=read_only, versions=versions())
    assert str(caught.value) == f"{path}: {expected}"
    assert contents(path.parent) == before


@pytest.mark.parametrize(
    "query",
    [
        "CREATE TRIGGER other AFTER UPDATE ON clients BEGIN DELETE FROM run; END",
        "CREATE VIEW other AS SELECT 1",
        "CREATE VIRTUAL TABLE other USING fts5(word)",
    ],
)
@pytest.mark.parametrize("read_only", [True, False])
def test_nothing_of_others_making_runs_in_a_migration(path: Path, query: str, *, read_only: bool) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(query)
    with pytest.raises(LotteryFLError, match=rf"run\.db: its tables are not those of version {OLD}"):
        Database(path, read_only=read_only, versions=versions(has_stopped))
    assert version_in(path) == OLD


@pytest.mark.parametrize("query", ["ALTER TABLE run ADD COLUMN other TEXT", "CREATE TABLE other (a)"])
@pytest.mark.parametrize("read_only", [True, False])
def test_other_tables_than_the_newest_are_refused_after_a_migration_too(
    path: Path, query: str, *, read_only: bool
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(query)
    with pytest.raises(LotteryFLError, match=rf"run\.db: its tables are not those of version {OLD}"):
        Database(path, read_only=read_only, versions=versions())


@pytest.mark.parametrize("numbers", [(), (OLD + 1,), (OLD + 2,), (OLD + 2, OLD + 1), (OLD + 1, OLD + 1)])
def test_a_step_that_is_missing_or_out_of_place_is_found(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"expected {[OLD + 1, OLD + 2]}")):
        Versions(NEWEST, OLD, OLD + 2, tuple(Migration(number, add_homes) for number in numbers))


def test_every_version_comes_to_the_same_tables(path: Path) -> None:
    """The fixtures hold the tables of every version as it was; opening compares what they become with the newest."""
    with closing(Database(path)):
        pass
    assert version_in(path) == SCHEMA_VERSION == RUN_DB.newest


def test_metrics_keep_what_is_measured_beside_them_where_their_table_becomes_another(path: Path) -> None:
    before = MIGRATIONS[0]
    rows = "SELECT round, client, phase, loss FROM metrics ORDER BY round, client, phase"
    with closing(sqlite3.connect(path)) as connection:
        before.apply(connection)
        connection.execute("INSERT INTO measures SELECT round, client, phase, 'mae', loss FROM metrics")
        connection.execute(f"PRAGMA user_version = {before.version}")
        connection.commit()
        measured = list(connection.execute(rows))
    assert measured
    with closing(Database(path)) as database:
        assert list(database.select(rows)) == measured
        assert list(database.select(rows.replace("metrics", "measures").replace("loss", "value"))) == measured
        assert list(database.select("PRAGMA foreign_key_check")) == []
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            database.select("DELETE FROM metrics")


def test_a_run_of_the_version_before_events_has_none_and_gets_them(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for before in MIGRATIONS:
            if before.version < EVENTS_SINCE:
                before.apply(connection)
        connection.execute(f"PRAGMA user_version = {EVENTS_SINCE - 1}")
        connection.commit()
    with closing(Database(path, read_only=True)) as database:
        assert newest_events(database) == []
    assert version_in(path) == EVENTS_SINCE - 1
    with closing(Database(path)) as database, database.transaction():
        add_events(database, [NewEvent("2026-11-27T00:00:00.000Z", "joined", 1, None, "w", "on cpu")])
    with closing(Database(path, read_only=True)) as database:
        assert newest_events(database) == [Event(1, "2026-11-27T00:00:00.000Z", "joined", 1, None, "w", "on cpu")]
