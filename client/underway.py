"""The calls of a worker's threads that are under way: whoever leaves cancels them all."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lotteryfl.client.idlewatch import Call
from lotteryfl.common.errors import LotteryFLError


class HungUpError(LotteryFLError):
    """The worker leaves: nobody waits for the call any more."""


class UnderWay:
    """Calls of any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: set[Call] = set()
        self._cancelled = threading.Event()

    @contextmanager
    def one(self, call: Call) -> Iterator[None]:
        """Count a call while the block runs."""
        with self._lock:
            self._calls.add(call)
        try:
            if self.is_cancelled:
                call.cancel()
            yield
        finally:
            with self._lock:
                self._calls.discard(call)

    def cancel(self) -> None:
        """Cancel all calls, now and from now on."""
        self._cancelled.set()
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()

    @property
    def is_cancelled(self) -> bool:
        """Whether nothing is to be tried any more."""
        return self._cancelled.is_set()

    def sleep(self, seconds: float) -> None:
        """Pause, but not beyond `cancel`."""
        self._cancelled.wait(seconds)

    def raise_if_cancelled(self) -> None:
        """Raise HungUpError after `cancel`."""
        if self.is_cancelled:
            raise HungUpError("the worker has hung up")
