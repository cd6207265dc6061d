"""Clients as a table, each as of the last result that it has."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lotteryfl.common.security.identity import name_of
from lotteryfl.server.store.record import RunRecord
from lotteryfl.server.store.rundb.measures import score_column
from lotteryfl.server.store.summaries import next_round

Row = dict[str, Any]

COLUMNS = (
    *("client", "is_new", "round", "rounds", "downloaded", "personalised", "gain", "global", "density", "train_loss"),
    *("examples", "seconds", "bytes_down", "bytes_up", "worker", "missed", "refused", "state", "mask"),
)
WITHHELD = ("downloaded", "personalised", "gain", "global", "density", "train_loss", "examples", "mask")
"""Of single clients, where privacy is promised."""

_NUMBERS = frozenset(COLUMNS) - {"is_new", "worker", "state", "mask"}
MOST_AT_ONCE = 5000
_DIGITS_OF_MASK = 8


@dataclass(frozen=True)
class Wanted:
    """Which clients are asked for, and in which order."""

    sort: str = "client"
    descending: bool = False
    offset: int = 0
    limit: int = 500
    find: str = ""
    state: str = ""
    worker: str = ""
    low: Sequence[tuple[str, float]] = ()
    """Columns with the least value that fits."""
    high: Sequence[tuple[str, float]] = ()


def bound(text: str) -> tuple[str, float]:
    """Return the column and the value of a bound, as density:0.3.

    Raises:
        ValueError: it is none.
    """
    key, _, value = text.partition(":")
    if key not in _NUMBERS:
        raise ValueError(f"{key!r} has no bounds")
    return key, float(value)


def read_clients(run: RunRecord) -> list[Row]:
    """Return a row for each client, in order."""
    database = run.database
    participants, number = database.participants, next_round(database, run.experiment.rounds)
    rows: list[Row] = [
        {**dict.fromkeys(COLUMNS), "client": each.client, "is_new": each.client >= participants, "rounds": 0}
        | {"density": each.density, "worker": "", "missed": 0, "refused": 0, "mask": each.mask[:_DIGITS_OF_MASK]}
        for each in database.clients()
    ]
    for client, down, up, missed in database.select(
        "SELECT client, sum(bytes_down), sum(bytes_up), sum(o.state = 'committed' AND a.state != 'done') "
        "FROM assignments a JOIN rounds o USING (round) WHERE round > 0 GROUP BY client"
    ):
        rows[client] |= {"bytes_down": down, "bytes_up": up, "missed": missed}
    for client, refused in database.select("SELECT client, count(*) FROM refusals WHERE round > 0 GROUP BY client"):
        rows[client]["refused"] = refused
    for client, state in database.select("SELECT client, state FROM assignments WHERE round = ?", number):
        rows[client]["state"] = state
    _add_results(run, rows)
    _add_workers(run, rows)
    if run.experiment.privacy.is_promised:
        for row in rows:
            row |= dict.fromkeys(WITHHELD)
    return rows


def _add_results(run: RunRecord, rows: list[Row]) -> None:
    score, hides_loss = run.score, run.experiment.privacy.hides_loss
    downloaded, personalised, globally = (score_column(score, metrics) for metrics in ("d", "p", "g"))
    for client, round_, rounds, down, up, known, density, loss, examples, seconds in run.database.select(
        f"""
        SELECT r.client, r.round, l.rounds, {downloaded}, {personalised}, {globally}, r.density, r.train_loss,
            r.examples, r.seconds
        FROM (SELECT client, max(round) AS round, count(*) AS rounds FROM results WHERE round > 0 GROUP BY client) l
        JOIN results r USING (round, client)
        JOIN metrics d ON (d.round, d.client, d.phase) = (r.round, r.client, 'downloaded')
        JOIN metrics p ON (p.round, p.client, p.phase) = (r.round, r.client, 'personalised')
        LEFT JOIN metrics g ON (g.round, g.client, g.phase) = (r.round, r.client, 'global')
        """,  # noqa: S608 - of the program's own words
        score=score.name,
    ):
        rows[client] |= {
            "round": round_,
            "rounds": rounds,
            "downloaded": down,
            "personalised": up,
            "gain": None if down is None or up is None else up - down,
            "global": known,
            "density": density,
            "train_loss": None if hides_loss else loss,
            "examples": examples,
            "seconds": seconds,
        }


def _add_workers(run: RunRecord, rows: list[Row]) -> None:
    """Say who had each client's last assignment that anybody had."""
    for client, worker in run.database.select(
        "SELECT client, worker FROM (SELECT client, worker, max(round) FROM assignments WHERE round > 0 "
        "AND worker != '' GROUP BY client)"
    ):
        rows[client]["worker"] = name_of(worker)


def page(rows: Sequence[Row], wanted: Wanted) -> dict[str, Any]:
    """Return what is asked for of the clients."""
    fitting = [row for row in rows if _fits(row, wanted)]
    known = [row for row in fitting if row[wanted.sort] not in (None, "")]
    unknown = [row for row in fitting if row[wanted.sort] in (None, "")]
    known.sort(key=lambda row: row[wanted.sort], reverse=wanted.descending)
    shown = [*known, *unknown][wanted.offset : wanted.offset + wanted.limit]
    return {"total": len(rows), "found": len(fitting), "columns": COLUMNS, "clients": shown}


def _fits(row: Mapping[str, Any], wanted: Wanted) -> bool:
    if wanted.find and not (wanted.find == str(row["client"]) or wanted.find.lower() in row["worker"].lower()):
        return False
    if (wanted.state and row["state"] != wanted.state) or (wanted.worker and row["worker"] != wanted.worker):
        return False
    return all(_number(row[key]) >= least for key, least in wanted.low) and all(
        _number(row[key]) <= most for key, most in wanted.high
    )


def _number(value: float | None) -> float:
    """Return a value to compare; what is not known is within no bounds."""
    return math.nan if value is None else value
