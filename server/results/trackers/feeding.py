"""Feeds several trackers with a run at once, none of which waits for another."""

import threading
from collections.abc import Sequence

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.server.results.trackers.feed import Feed
from lotteryfl.server.results.trackers.runsend import RunsEnd

_LOOK_SECONDS = 1.0
"""In which it is seen that the end has begun."""

_HANGING_SECONDS = 10.0
"""That a tracker has after the end of all waiting for an answer that is under way."""


def feed_all(feeds: Sequence[Feed], end: RunsEnd) -> list[str]:
    """Feed them until all have what there is, or there is no time left; return in lines what was not possible.

    Args:
        feeds: one for each tracker.
        end: which they were told of; somebody else lets it begin.
    """
    failed: list[str] = []

    def run(feed: Feed) -> None:
        try:
            feed.run()
        except LotteryFLError as error:
            failed.append(str(error))

    threads = [threading.Thread(target=run, args=(feed,), daemon=True) for feed in feeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and end.seconds_left > 0:
            thread.join(min(end.seconds_left, _LOOK_SECONDS))
    for thread, feed in zip(threads, feeds, strict=True):
        thread.join(_HANGING_SECONDS)
        if thread.is_alive():
            failed.append(f"{feed.shown}: gives no answer")
    return failed
