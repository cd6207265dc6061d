"""Who worked on what, and when: bars of the last rounds."""

import time
from typing import Any

from lotteryfl.common.security.identity import name_of
from lotteryfl.dashboard.reading.times import seconds_of
from lotteryfl.server.store.rundb.database import Database

MOST_ROUNDS = 20
_MOST_BARS = 2000
_FEW_BARS = 150
"""That can still be told apart at the width of a page."""


def read_timeline(database: Database, round_: int | None = None, rounds: int | None = None) -> dict[str, Any]:
    """Return the assignments of some rounds that a worker got, each on its last one.

    Args:
        database: of the run.
        round_: that round alone; None: the last ones.
        rounds: so many of the last; None: as many as can be told apart.
    """
    numbers = [round_] if round_ is not None else _last(database, rounds)
    marks = ", ".join("?" * len(numbers))
    opened = {
        number: (seconds_of(opening), seconds_of(committed))
        for number, opening, committed in database.select(
            f"SELECT round, opened_at, committed_at FROM rounds WHERE round IN ({marks}) ORDER BY round",  # noqa: S608
            *numbers,
        )
    }
    rows = database.select(
        "SELECT round, client, worker, leased_at, done_at, attempt, state FROM assignments "  # noqa: S608
        f"WHERE round IN ({marks}) AND leased_at != '' ORDER BY leased_at LIMIT ?",
        *numbers,
        _MOST_BARS + 1,
    ).fetchall()
    begin = min((moment for moment, _ in opened.values() if moment is not None), default=0.0)
    names = sorted({name_of(row[2]) for row in rows}, key=lambda name: (len(name), name))
    places = {name: place for place, name in enumerate(names)}
    shown = rows[:_MOST_BARS]
    return {
        "rounds": sorted(opened),
        "at": time.time(),
        "begin": begin,
        "workers": names,
        "bars": {
            "round": [row[0] for row in shown],
            "client": [row[1] for row in shown],
            "worker": [places[name_of(row[2])] for row in shown],
            "begin": [_since(row[3], begin) for row in shown],
            "end": [_since(row[4], begin) if row[6] == "done" else None for row in shown],
            "attempt": [row[5] for row in shown],
            "state": [row[6] for row in shown],
        },
        "marks": [
            {"round": number, "opened": _less(opening, begin), "committed": _less(committed, begin)}
            for number, (opening, committed) in opened.items()
        ],
        "cut": len(rows) > _MOST_BARS,
    }


def _last(database: Database, rounds: int | None) -> list[int]:
    counts = database.select(
        "SELECT round, count(*) FROM assignments WHERE round > 0 AND leased_at != '' GROUP BY round "
        "ORDER BY round DESC LIMIT ?",
        MOST_ROUNDS if rounds is None else rounds,
    ).fetchall()
    if rounds is not None:
        return [number for number, _ in counts]
    chosen: list[int] = []
    bars = 0
    for number, count in counts:
        bars += count
        if chosen and bars > _FEW_BARS:
            break
        chosen.append(number)
    return chosen


def _since(text: str, begin: float) -> float | None:
    return _less(seconds_of(text), begin)


def _less(moment: float | None, begin: float) -> float | None:
    return None if moment is None else moment - begin
