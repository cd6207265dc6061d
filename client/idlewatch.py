"""Streams are judged by progress, not by wall clock: a call whose stream stands still is cancelled."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")


class Call(Protocol):
    """A gRPC call under way."""

    def cancel(self) -> bool:
        """Give the call up."""


class IdleWatch:
    """Watches one stream, of either direction."""

    def __init__(self, seconds: float) -> None:
        """Set the longest time between two messages."""
        self._seconds = seconds
        self._moved = time.monotonic()
        self._done = threading.Event()

    def over(self, messages: Iterable[T]) -> Iterator[T]:
        """Pass a stream's messages on; each is progress."""
        for message in messages:
            self._moved = time.monotonic()  # and no more: waking the watch each time would halve the stream's speed
            yield message

    @contextmanager
    def guarding(self, call: Call) -> Iterator[None]:
        """Cancel the call when its stream stands still, and when the block is left by an exception."""
        thread = threading.Thread(target=self._watch, args=(call,), name="stream watch", daemon=True)
        self._moved = time.monotonic()
        thread.start()
        try:
            yield
        except BaseException:
            call.cancel()
            raise
        finally:
            self._done.set()
            thread.join()

    def _watch(self, call: Call) -> None:
        while (remaining := self._moved + self._seconds - time.monotonic()) > 0:
            if self._done.wait(remaining):
                return
        call.cancel()
