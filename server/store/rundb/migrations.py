"""How run.db of an earlier version becomes one of this: numbered steps, in order, each whole or not at all."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from lotteryfl.server.store.rundb.schema import OLDEST_VERSION, SCHEMA, SCHEMA_VERSION
from lotteryfl.server.store.rundb.transaction import transaction

_Definition = tuple[str, str, tuple[str, ...]]

_TOKEN = re.compile(r"--[^\n]*|/\*.*?\*/|('(?:[^']|'')*'|\w+|[^\s\w])", re.DOTALL)
_QUOTED_NAME = re.compile(r'"(\w+)"')


class Migration(NamedTuple):
    """One step, from the version before."""

    version: int
    """The version that it makes."""
    apply: Callable[[sqlite3.Connection], object]
    """Changes tables and rows, inside a transaction that it leaves open: by `execute`, never by `executescript`."""


def _add_measures(connection: sqlite3.Connection) -> None:
    """0.2: tasks may have an objective of their own, with metrics by name."""
    connection.execute(
        "CREATE TABLE measures (round INTEGER NOT NULL, client INTEGER NOT NULL, phase TEXT NOT NULL, "
        "name TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (round, client, phase, name), "
        "FOREIGN KEY (round, client, phase) REFERENCES metrics) STRICT, WITHOUT ROWID"
    )


def _allow_shared_and_index(connection: sqlite3.Connection) -> None:
    """0.2: the shared model itself is measured, a phase of its own; a commit looks at its own clients alone."""
    columns = (
        "round, client, phase, examples, loss, accuracy, balanced_accuracy, micro_precision, micro_recall, "
        "macro_precision, macro_recall"
    )
    connection.execute(
        "CREATE TABLE new_metrics (round INTEGER NOT NULL, client INTEGER NOT NULL, "
        "phase TEXT NOT NULL CHECK (phase IN ('validation', 'downloaded', 'personalised', 'global', 'shared')), "
        "examples INTEGER NOT NULL, loss REAL NOT NULL, accuracy REAL NOT NULL, balanced_accuracy REAL NOT NULL, "
        "micro_precision REAL NOT NULL, micro_recall REAL NOT NULL, macro_precision REAL NOT NULL, "
        "macro_recall REAL NOT NULL, PRIMARY KEY (round, client, phase), "
        "FOREIGN KEY (round, client) REFERENCES results) STRICT, WITHOUT ROWID"
    )
    connection.execute(f"INSERT INTO new_metrics ({columns}) SELECT {columns} FROM metrics")  # noqa: S608
    connection.execute("DROP TABLE metrics")
    connection.execute("ALTER TABLE new_metrics RENAME TO metrics")
    connection.execute("CREATE INDEX shared_metrics ON metrics (round) WHERE phase = 'shared'")
    connection.execute("CREATE INDEX clients_by_mask ON clients (mask)")
    connection.execute("CREATE INDEX results_by_client ON results (client)")


def _add_stacks(connection: sqlite3.Connection) -> None:
    """0.2: clients of a round may train as one model."""
    connection.execute("ALTER TABLE assignments ADD COLUMN stack INTEGER")


def _add_attendance(connection: sqlite3.Connection) -> None:
    """0.2: a strategy may go by who is there, and what it saw is on record."""
    connection.execute("ALTER TABLE rounds ADD COLUMN held TEXT")


def _add_events(connection: sqlite3.Connection) -> None:
    """0.2: what happens in a run is on record, for who looks at it."""
    connection.execute(
        "CREATE TABLE events (id INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, round INTEGER NOT NULL, "
        "client INTEGER, worker TEXT NOT NULL, text TEXT NOT NULL) STRICT"
    )


MIGRATIONS: tuple[Migration, ...] = (
    Migration(7, _add_measures),
    Migration(8, _allow_shared_and_index),
    Migration(9, _add_stacks),
    Migration(10, _add_attendance),
    Migration(11, _add_events),
)
"""One for every version after `OLDEST_VERSION`; what has been released is never edited."""


@dataclass(frozen=True)
class Versions:
    """The versions of a database that this program reads, and how the older ones become the newest."""

    schema: str
    """The tables of the newest."""
    oldest: int
    newest: int
    migrations: tuple[Migration, ...] = ()

    def __post_init__(self) -> None:
        """Check that no step is missing.

        Raises:
            ValueError: the steps do not lead from the oldest version to the newest, one by one.
        """
        found, expected = [m.version for m in self.migrations], list(range(self.oldest + 1, self.newest + 1))
        if found != expected:
            raise ValueError(f"migrations to versions {found}: expected {expected}")

    def create(self, connection: sqlite3.Connection) -> None:
        """Make the tables of the newest version in an empty database."""
        connection.executescript(f"BEGIN; {self.schema} PRAGMA user_version = {self.newest}; COMMIT")

    def migrate(self, connection: sqlite3.Connection) -> None:
        """Take a database of a version that is read to the newest; what fails leaves it at the version before."""
        connection.execute("PRAGMA foreign_keys = OFF")  # a step may put a new table in an old one's place
        for migration in self.migrations:
            with transaction(connection):
                if version_of(connection) < migration.version:
                    migration.apply(connection)
                    connection.execute(f"PRAGMA user_version = {migration.version}")

    def refusal(self, version: int) -> str:
        """Say of a version why it is not read; empty: it is."""
        if self.oldest <= version <= self.newest:
            return ""
        readable = f"{self.oldest} to {self.newest}" if self.oldest < self.newest else f"{self.newest}"
        what = f"is of version {version}; this program reads {readable}"
        if version > self.newest:
            return f"{what}: a newer lotteryfl wrote it"
        return f"{what}: it was made before lotteryfl 0.1" if version > 0 else what

    def fits(self, connection: sqlite3.Connection) -> bool:
        """Tell whether a database defines what the newest version does, and nothing else.

        A view of others' making would run their queries in place of a table's.
        """
        return _definitions(connection) == _expected(self.schema)


def version_of(connection: sqlite3.Connection) -> int:
    """Return a database's version; 0: it is new."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def has_only_tables(connection: sqlite3.Connection) -> bool:
    """Tell whether a database of an older version has nothing in it that would run code of its own when migrated."""
    return all(
        kind == "index" or (kind == "table" and sql.startswith("CREATE TABLE "))
        for kind, sql in connection.execute("SELECT type, sql FROM sqlite_schema")
    )


def _definitions(connection: sqlite3.Connection) -> list[_Definition]:
    """Return all that a database defines, without what ALTER TABLE does otherwise than people: spaces, quoted names."""
    rows = connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name")
    return [(kind, name, _tokens(sql or "")) for kind, name, sql in rows]


def _tokens(sql: str) -> tuple[str, ...]:
    return tuple(match[1] for match in _TOKEN.finditer(_QUOTED_NAME.sub(r"\1", sql)) if match[1])


@cache
def _expected(schema: str) -> list[_Definition]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema)
        return _definitions(connection)


RUN_DB = Versions(SCHEMA, OLDEST_VERSION, SCHEMA_VERSION, MIGRATIONS)
"""Those of run.db."""
