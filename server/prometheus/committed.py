"""What is on record of the committed rounds, each read once."""

import sys
from bisect import bisect_left
from datetime import datetime
from itertools import accumulate

from lotteryfl.server.store.rundb.database import Database

_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)


class CommittedRounds:
    """Sums over a run's committed rounds."""

    def __init__(self, database: Database) -> None:
        """Begin with none.

        Args:
            database: of the run; used by the thread that reads.
        """
        self._database = database
        self._next = -sys.maxsize
        self._counts = [0] * (len(_BOUNDS) + 1)
        self.seconds = 0.0
        """What all of them took."""
        self.results = 0
        """How many counted in them, and in the last measuring of a run that was made longer since."""
        self.last_commit: float | None = None
        """In seconds since 1970."""

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """How many rounds took no longer than each bound."""
        return list(zip([*map(str, _BOUNDS), "+Inf"], map(float, accumulate(self._counts)), strict=True))

    def read(self, open_: int) -> None:
        """Read what has been committed since the last time.

        Args:
            open_: the open round, or the one that comes next.
        """
        if open_ == self._next:
            return
        select, first, self._next = self._database.select, self._next, open_
        (found,) = select("SELECT count(*) FROM results WHERE round >= ? AND round < ?", first, open_).fetchone()
        self.results += found
        rows = select(
            "SELECT seconds, committed_at FROM rounds "
            "WHERE state = 'committed' AND round >= ? AND round < ? ORDER BY round",
            max(first, 1),
            open_,
        )
        for seconds, committed_at in rows:
            self._counts[bisect_left(_BOUNDS, seconds)] += 1
            self.seconds += seconds
            self.last_commit = datetime.fromisoformat(committed_at).timestamp()
