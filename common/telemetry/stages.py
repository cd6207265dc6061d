"""How long the stages of a process's work take, added up; a run that is traced has them as spans, too."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import NamedTuple

from lotteryfl.common.telemetry.tracing import span


class Passed(NamedTuple):
    """What a stage has taken since the process began."""

    times: int = 0
    """How often it was gone through, well or not."""
    seconds: float = 0.0


class Stages:
    """Stages by name; any thread may be in one."""

    def __init__(self) -> None:
        self._passed: dict[str, Passed] = {}
        self._lock = Lock()

    @contextmanager
    def within(self, stage: str, **attributes: str | int) -> Iterator[None]:
        """Count the block's time as a stage's, and have it be a span of that name, with attributes."""
        with self.timed(stage), span(stage, **attributes):
            yield

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the block's time as a stage's."""
        begin = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - begin
            with self._lock:
                times, before = self._passed.get(stage, Passed())
                self._passed[stage] = Passed(times + 1, before + seconds)

    def passed(self) -> Mapping[str, Passed]:
        """Return what each stage has taken so far; none that was never begun."""
        with self._lock:
            return dict(self._passed)
