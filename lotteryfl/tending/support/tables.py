"""The tables of run.db as lines of JSON: columns that are named here, and no others."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from lotteryfl.server.store.rundb.database import Database
from lotteryfl.tending.support.redaction import Redactor

MOST_ROWS = 20_000
"""Of a table, the newest."""

_OWN_NAMES = re.compile(r"[0-9a-f]{64}|(models|results)/[\w.-]{1,60}\.safetensors", re.ASCII)
"""Digests, and files of a run's own making."""


class _Columns(NamedTuple):
    plain: str
    """Facts of the run, in one text."""
    messages: str = ""
    """What went wrong, perhaps in words of a client's data."""
    worker: str = ""
    measured: str = ""
    """Of clients' data: not where privacy is promised, or clients are somebody's own."""


TABLES = {
    "rounds": _Columns("round state opened_at committed_at seconds retries epsilon delta held", "reason"),
    "clients": _Columns("client mask density ticket"),
    "assignments": _Columns(
        "round client mask density state attempt forgiven broadcast bytes_down bytes_up leased_at done_at stack",
        "reason",
        "worker",
    ),
    "results": _Columns("round client mask density seconds scale", measured="examples train_loss"),
    "refusals": _Columns("number round client attempt", "reason", "worker"),
    "metrics": _Columns("round client phase", measured="examples loss accuracy balanced_accuracy"),
    "measures": _Columns("round client phase name", measured="value"),
    "events": _Columns("id at kind round client", "text", "worker"),
}

FACTS = (
    "state model_round best_round best_downloaded best_personalised rounds_in_vain ended_early initial_digest "
    "model_digest model_sha256 shared_mask shared_density shared_bytes_down score score_lower_is_better participants "
    "knows_frozen file_rounds"
)
"""Keys of the table `run` whose values are told, in one text; of the others, that they are there."""


def facts(database: Database, redactor: Redactor) -> dict[str, str]:
    """Return the table `run`, key by key."""
    rows = {str(key): str(value) for key, value in database.select("SELECT key, value FROM run ORDER BY key")}
    told = {key: _plain(value, redactor.text) if key in FACTS.split() else "<there>" for key, value in rows.items()}
    told["table"] = rows.get("table", "")  # names, shapes and dtypes of the model's tensors
    return told | ({"reason": redactor.message(rows["reason"])} if "reason" in rows else {})


def table(database: Database, name: str, redactor: Redactor, *, is_private: bool) -> Iterator[str]:
    """Yield the newest rows of a table, a line of JSON each, in the order in which they were written.

    Args:
        database: run.db.
        name: of the table.
        redactor: of its texts.
        is_private: what was measured of clients' data is left out.
    """
    columns = TABLES[name]
    there = {str(row[1]) for row in database.select(f"PRAGMA table_info({name})")}
    measured = "" if is_private else columns.measured
    chosen = [
        each for each in f"{columns.plain} {columns.messages} {columns.worker} {measured}".split() if each in there
    ]
    if not chosen:
        return
    first = ", ".join(f"{each} DESC" for each in chosen[:2])
    query = f"SELECT {', '.join(chosen)} FROM {name} ORDER BY {first} LIMIT {MOST_ROWS}"  # noqa: S608 - of this file
    for row in reversed(database.select(query).fetchall()):
        yield json.dumps({key: _told(key, value, columns, redactor) for key, value in zip(chosen, row, strict=True)})


def _told(column: str, value: object, columns: _Columns, redactor: Redactor) -> Any:
    if not isinstance(value, str):
        return value if isinstance(value, int | float | None) else f"<{type(value).__name__}>"
    if column == columns.messages:
        return redactor.message(value)
    return redactor.worker(value) if column == columns.worker else _plain(value, redactor.text)


def _plain(value: str, otherwise: Callable[[str], str]) -> str:
    return value if _OWN_NAMES.fullmatch(value) else otherwise(value)
