"""When nothing more comes of a run, and until when what has come may still be sent."""

import threading
import time


class RunsEnd:
    """Begins once: when the run is over, or whoever drives it is gone. From then on there are so many seconds."""

    def __init__(self, wait: float) -> None:
        """Set how many seconds there are after it."""
        self._wait = wait
        self._begun = threading.Event()
        self._deadline = 0.0

    def begin(self, wait: float | None = None) -> None:
        """Let the end begin, unless it has, and perhaps with fewer seconds than were set."""
        if not self._begun.is_set():
            self._deadline = time.monotonic() + (self._wait if wait is None else wait)
            self._begun.set()

    @property
    def has_begun(self) -> bool:
        """Whether nothing more comes than what the directory has by now."""
        return self._begun.is_set()

    @property
    def seconds_left(self) -> float:
        """Seconds in which something may still be sent."""
        return max(0.0, self._deadline - time.monotonic()) if self.has_begun else float("inf")

    def pause(self, seconds: float) -> None:
        """Wait, at most until the end begins, or until nothing may be sent any more."""
        if self.has_begun:
            time.sleep(min(seconds, self.seconds_left))
        else:
            self._begun.wait(seconds)
