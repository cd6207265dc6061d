"""How long a run is likely to take still, by its record: one estimate, whoever tells of it."""

from collections.abc import Sequence
from statistics import median

from lotteryfl.server.store.rundb.database import Database

_LAST_ROUNDS = 10
"""Rounds that are looked at: what was before may have been with other workers."""


def time_left(seconds: Sequence[float], rounds: int) -> float | None:
    """Return in how many seconds some rounds will be over, as the last ones went; None: nobody knows.

    Args:
        seconds: that committed rounds took, of which the last are looked at.
        rounds: that are not committed, the open one and the last measuring among them.
    """
    if not rounds:
        return 0.0
    return median(seconds[-_LAST_ROUNDS:]) * rounds if seconds else None


def seconds_left(database: Database, rounds: int) -> float | None:
    """Return in how many seconds a run will be over.

    Args:
        database: of the run.
        rounds: that are not committed, the open one and the last measuring among them.
    """
    query = (
        "SELECT seconds FROM rounds WHERE state = 'committed' AND round > 0 AND seconds IS NOT NULL "
        "ORDER BY round DESC LIMIT ?"
    )
    return time_left([seconds for (seconds,) in database.select(query, _LAST_ROUNDS)], rounds)
