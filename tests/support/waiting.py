"""How long tests wait: for events. No clock ends a wait that a busy machine may still see the end of."""

import threading
import time
from collections.abc import Callable

from lotteryfl.common.security.channel import POLL_SECONDS

DEADLINE = 120.0
"""Seconds for whatever must happen, and for every call; nothing comes near it unless it is broken."""

PROMPT = POLL_SECONDS * 3 / 4
"""Seconds that a worker may take to hear of news while it waits for work: untold, it would wait for its poll's end."""


def until(condition: Callable[[], bool], seconds: float = DEADLINE) -> None:
    """Wait for what happens behind a call that is over."""
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.01)
