"""What a coordinator says of its run now, as long as that is fresh."""

import time

from lotteryfl.feed import News
from lotteryfl.protos import lotteryfl_pb2 as pb

_FRESH_SECONDS = 10.0


class Live:
    """The last news of one run."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._news: News | None = None
        self._heard = 0.0
        self.heard_at: float | None = None
        """When there were news last, in seconds since 1970."""
        self.number = 0
        """How many there were."""

    @property
    def news(self) -> News | None:
        """The last ones; None: there are none, or they are old."""
        return self._news if time.monotonic() - self._heard < _FRESH_SECONDS else None

    @property
    def has_ended(self) -> bool:
        """Whether the last ones said that the run has."""
        return self._news is not None and self._news.status.state != pb.RunStatus.RUNNING

    def tell(self, news: News) -> None:
        """Take note of news."""
        self._news, self._heard, self.heard_at = news, time.monotonic(), time.time()
        self.number += 1
