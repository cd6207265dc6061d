"""Damages to a run directory: bytes that are messages, one for each damage."""

# ruff: noqa: S608 - every name in a query is our own

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from enum import IntEnum
from pathlib import Path
from random import Random

from tests.fuzz.mutate import NUMBERS, mutate_file, mutate_json, mutate_toml
from tests.fuzz.runs import LiveRun

TABLES = ("run", "rounds", "clients", "assignments", "results", "metrics")
TEXTS = (
    "",
    "x",
    "../x",
    "a\0b",
    "open",
    "committed",
    "done",
    "leased",
    "finished",
    "-1",
    "1",
    "9" * 30,
    "x" * 300,
    "[",
    "/dev/null",
)
LONGEST_FILE = 1 << 15


class Kind(IntEnum):
    """What a damage does. After it come the file or table, 3 bytes that say where in it, and a value."""

    PATCH = 0
    CUT = 1
    REPLACE = 2
    REMOVE = 3
    SET = 4
    DELETE = 5
    LOOSEN = 6
    """The tables take values of any type."""
    ADD = 7


def damage(kind: Kind, which: int, place: tuple[int, int, int] = (0, 0, 0), value: bytes = b"") -> bytes:
    return bytes((kind, which, *place)) + value


def do_damage(live: LiveRun, message: bytes) -> None:
    """Damage the run directory, where that can be done."""
    kind, which, place, value = Kind(message[0] % len(Kind)), message[1], message[2:5], message[5:]
    with suppress(sqlite3.Error, OSError, ValueError, OverflowError):
        if kind < Kind.SET:
            _damage_file(live.damaged(live.names[which % len(live.names)]), kind, int.from_bytes(place, "big"), value)
        else:
            with closing(sqlite3.connect(live.damaged("run.db"), isolation_level=None)) as connection:
                connection.execute("PRAGMA ignore_check_constraints = ON")
                connection.execute("PRAGMA synchronous = OFF")
                _damage_table(connection, kind, TABLES[which % len(TABLES)], place, _value(value))


def _damage_file(file: Path, kind: Kind, offset: int, value: bytes) -> None:
    content = file.read_bytes() if file.exists() else b""
    offset %= len(content) + 1
    match kind:
        case Kind.PATCH:
            file.write_bytes(content[:offset] + value + content[offset + len(value) :])
        case Kind.CUT:
            file.write_bytes(content[:offset])
        case Kind.REPLACE:
            file.write_bytes(value)
        case _:
            file.unlink(missing_ok=True)


def _damage_table(connection: sqlite3.Connection, kind: Kind, table: str, place: bytes, value: object) -> None:
    about = list(connection.execute(f"PRAGMA table_info({table})"))
    columns, keys = [row[1] for row in about], [row[1] for row in about if row[5]]
    rows = list(connection.execute(f"SELECT {', '.join(keys)} FROM {table}"))
    where = " AND ".join(f"{key} IS ?" for key in keys)
    row = rows[place[1] % len(rows)] if rows else ()
    column = columns[place[0] % len(columns)]
    match kind:
        case Kind.SET:
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value, *row))
        case Kind.DELETE:
            connection.execute(f"DELETE FROM {table} WHERE {where}", row)
        case Kind.LOOSEN:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')')")
        case _:
            values = ", ".join("?" if name == column else name for name in columns)
            connection.execute(f"INSERT INTO {table} SELECT {values} FROM {table} WHERE {where}", (value, *row))


_VALUES: tuple[Callable[[bytes], object], ...] = (
    lambda rest: int.from_bytes(rest[:8], "big", signed=True),
    lambda rest: NUMBERS[rest[0] % 16],
    lambda rest: rest.decode(errors="replace"),
    lambda rest: TEXTS[rest[0] % len(TEXTS)],
    lambda rest: rest,
    lambda _: None,
    lambda rest: float("inf") if rest[0] else -1.5,
    lambda _: "9" * 5_000,
)


def _value(value: bytes) -> object:
    """Return what a table is given: bytes are too few of what may stand in it."""
    return _VALUES[value[0] % len(_VALUES)](value[1:] or b"\0") if value else 0


def new_damage(live: LiveRun, random: Random) -> bytes:
    if random.random() < 0.4:
        kind = random.choice((Kind.SET, Kind.SET, Kind.SET, Kind.DELETE, Kind.ADD, Kind.LOOSEN))
        place = (random.randrange(256), random.randrange(256), 0)
        return damage(kind, random.randrange(len(TABLES)), place, random.randbytes(random.choice((2, 9))))
    which = random.randrange(len(live.names))
    content = live.files.get(live.names[which], b"")
    place = (0, *divmod(random.randrange(min(len(content), 0xFFFF) + 1), 256))
    if random.random() < 0.5:
        value = random.choice((b"\0", b"\1", b"\xff", random.randbytes(random.randint(1, 9))))
        return damage(Kind.PATCH, which, place, value)
    if random.random() < 0.1 or content.startswith(b"SQLite"):
        return damage(random.choice((Kind.CUT, Kind.REMOVE)), which, place)
    mutate = {".toml": mutate_toml, ".json": mutate_json}.get(Path(live.names[which]).suffix, mutate_file)
    return damage(Kind.REPLACE, which, value=mutate(content, random)[:LONGEST_FILE])
