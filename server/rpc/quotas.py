"""What each caller has taken of what is limited, at once or in a minute."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lotteryfl.server.rpc.limits import LimitError


class Shares:
    """How many of something each has at once."""

    def __init__(self, what: str, most: int) -> None:
        """Set how many of what each may have."""
        self._what = what
        self._most = most
        self._counts: Counter[str] = Counter()

    @contextmanager
    def one(self, who: str) -> Iterator[None]:
        """Count one more while the block runs.

        Raises:
            LimitError: that is more than its share.
        """
        if self._counts[who] >= self._most:
            raise LimitError(f"{who} has {self._most} {self._what} under way, and may not have more at once")
        self._counts[who] += 1
        try:
            yield
        finally:
            self._counts[who] -= 1
            if not self._counts[who]:
                del self._counts[who]


class Rate:
    """How much each does in a minute (the generic cell rate algorithm: one number for each)."""

    def __init__(self, what: str, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Set how much of what each may do; all of a minute's may come at once."""
        self._what = what
        self._most = per_minute
        self._clock = clock
        self._done_until: dict[str, float] = {}  # by who, when what it did would be done one after the other

    def count(self, who: str) -> None:
        """Count one more.

        Raises:
            LimitError: that is too much for now; it does not count.
        """
        now = self._clock()
        self._done_until = {known: until for known, until in self._done_until.items() if until > now}
        each = 60 / self._most
        until = self._done_until.get(who, now) + each
        if until - now > 60 + each / 2:  # half of one is for rounding
            raise LimitError(f"{who} has come to {self._most} {self._what} in a minute: try again later")
        self._done_until[who] = until
