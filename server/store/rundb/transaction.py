"""Transactions of SQLite, each whole or not at all; several may wait for the disk together."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block's changes reach the disk, or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after some errors SQLite has rolled back by itself
            connection.execute("ROLLBACK")
        raise


@contextmanager
def together(connection: sqlite3.Connection) -> Iterator[None]:
    """The block's transactions, each committed by itself, wait for the disk once, at its end, and not each.

    Raises:
        sqlite3.Error: the disk fails: they are on it or not, as after a power cut, the last ones perhaps not.
    """
    before = connection.total_changes
    connection.execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        connection.execute("PRAGMA synchronous = FULL")
        if connection.total_changes != before:
            _sync(connection)


def _sync(connection: sqlite3.Connection) -> None:
    """Commit once more, and wait for the disk: it then has all that was written to the log before."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version}")  # changes nothing, and is written
