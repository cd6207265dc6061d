"""How often, and after which pauses, a host that has gone is tried again."""

import contextlib
import time
from collections.abc import Iterator

from lotteryfl.common.errors import LotteryFLError, TaskVersionError

_HOPELESS = (2, TaskVersionError.exit_code, 126, 127)
"""Exit codes of a worker that will be no other next time: wrong usage, another task's version, no program."""

_MOST_FAILURES = 3
"""So often in a row a worker may fail at once over a connection that is well."""

_STEADY_SECONDS = 30.0
"""What went well for so long has not failed at once."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


class ConnectionGoneError(LotteryFLError):
    """A host cannot be reached, or not any more."""


class WorkerFailedError(LotteryFLError):
    """A host's worker has ended before the run has."""

    def __init__(self, message: str, code: int) -> None:
        """Set both.

        Args:
            message: of which host, and why.
            code: the worker's exit code.
        """
        super().__init__(message)
        self.code = code


class Retrying:
    """The patience with one host."""

    def __init__(self, seconds: float) -> None:
        """Set for how long a host is tried again that cannot be reached."""
        self._seconds = seconds
        self._began()

    def _began(self) -> None:
        self._since: float | None = None
        self._failures = 0
        self._pause = _FIRST_PAUSE

    @contextlib.contextmanager
    def trying(self) -> Iterator[None]:
        """Forget earlier trouble where the block, which is the host's work, goes well for long enough."""
        begin = time.monotonic()
        try:
            yield
        finally:
            if time.monotonic() - begin > _STEADY_SECONDS:
                self._began()

    def pause(self, error: ConnectionGoneError | WorkerFailedError) -> float:
        """Return how many seconds to wait before the host is tried again.

        Args:
            error: what has happened now.

        Raises:
            LotteryFLError: it is not tried again: `error`.
        """
        self._since = self._since or time.monotonic()
        if isinstance(error, WorkerFailedError):
            self._failures += 1
            if error.code in _HOPELESS or self._failures >= _MOST_FAILURES:
                raise error
        if time.monotonic() - self._since > self._seconds:
            raise error
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        return pause
