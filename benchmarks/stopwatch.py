"""Times functions of the system from outside: the system itself carries no instruments."""

import functools
import inspect
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple


class Lap(NamedTuple):
    """One call; the clock is the machine's, the same in all its processes."""

    start: float
    end: float
    cpu: float = 0.0
    """Seconds that the process had computed when it ended."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.start


Laps = Mapping[str, list[Lap]]


class Stopwatch:
    """The calls of functions, by label."""

    def __init__(self) -> None:
        self._laps: dict[str, list[Lap]] = defaultdict(list)

    def wrap(self, label: str, owner: Any, *attributes: str) -> None:
        """Replace functions of a module or class by ones that also note when they were called, and how long."""
        for attribute in attributes:
            function = getattr(owner, attribute)
            timed = self._timed_coroutine if inspect.iscoroutinefunction(function) else self._timed
            is_static = isinstance(inspect.getattr_static(owner, attribute), staticmethod)
            call = timed(label, function)
            setattr(owner, attribute, staticmethod(call) if is_static else call)

    def take(self) -> Laps:
        """Return the laps since the last time."""
        laps, self._laps = self._laps, defaultdict(list)
        return dict(laps)

    def _timed(self, label: str, function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.monotonic()
            try:
                return function(*args, **kwargs)
            finally:
                self._laps[label].append(Lap(start, time.monotonic(), time.process_time()))

        return call

    def _timed_coroutine(self, label: str, function: Any) -> Any:
        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            start = time.monotonic()
            try:
                return await function(*args, **kwargs)
            finally:
                self._laps[label].append(Lap(start, time.monotonic(), time.process_time()))

        return call


def seconds_within(laps: Laps, label: str, window: Lap) -> float:
    """Return the time spent under a label in calls that began within a window.

    Began: what a round asks for begins in it, but a last answer may arrive only when the next round is under way.
    """
    return sum(lap.seconds for lap in laps.get(label, ()) if window.start <= lap.start < window.end)
