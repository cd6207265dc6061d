"""How many processes one device is to have, by what those that are there have measured: `--per-device auto`.

Pure: what was measured goes in, a number comes out. Nothing of it decides what a run comes to.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

COUNTED = 2
"""Assignments of each process that are counted before the number changes, after a first one that is not: what is new
has to warm up, and what was begun before has had fewer beside it."""

LEAST_GAIN = 1.1
"""By how many times one process more must raise the throughput to stay."""


class Measured(NamedTuple):
    """What one assignment's work has come to."""

    examples: int
    """That were trained on."""
    seconds: float
    """Of work; without what it waited."""
    host: int
    """Bytes of the machine's memory that its process took at the peak."""
    held: int = 0
    """Bytes of the device's memory that its process held."""
    free: int = 0
    """Bytes of the device that no process held after it; 0, as `total`, where the device has none of its own."""
    total: int = 0
    """Bytes of the device."""


@dataclass
class Sizing:
    """How many processes one device is to have, from one on upwards."""

    most: int
    """More are not tried: what feeds them, such as the machine's cores, would not do."""
    host_share: int
    """Bytes of the machine's memory that all the device's processes may take."""
    count: int = 1
    """How many there are to be."""
    why: str = ""
    """Why it is so many; empty: that is still being found."""
    _rates: dict[int, float] = field(default_factory=dict)
    """By number of processes: examples a second of all of them."""
    _seen: defaultdict[str, list[Measured]] = field(default_factory=lambda: defaultdict(list))

    def measured(self, process: str, what: Measured) -> int:
        """Take note of an assignment's work, and return how many processes there are to be."""
        if self.why:
            return self.count
        self._seen[process].append(what)
        done = [seen for seen in self._seen.values() if len(seen) > COUNTED]
        if len(done) >= self.count:
            self._step([each for seen in done for each in seen[1:]])
        return self.count

    def come_down(self, why: str) -> int:
        """Have one process less, though not less than one, and no more from now on.

        Args:
            why: for people.
        """
        if self.count > 1 or not self.why:
            self.count, self.why = max(1, self.count - 1), why
        return self.count

    def begin_again(self, process: str) -> None:
        """Forget what a process has measured that was started again: it has to warm up."""
        self._seen.pop(process, None)

    def _step(self, counted: list[Measured]) -> None:
        """Decide, now that every process has been counted."""
        rate = self.count * sum(each.examples for each in counted) / max(1e-9, sum(each.seconds for each in counted))
        self._rates[self.count] = rate
        self._seen.clear()
        fewer = self._rates.get(self.count - 1)
        if fewer is not None and rate < LEAST_GAIN * fewer:
            self.come_down(f"{self.count} do {rate / fewer:.2f} times the work of {self.count - 1}")
        elif self.count >= self.most:
            self.why = f"more than {self.most} are not tried"
        elif short := self._short_of(counted):
            self.why = f"one more would not fit: {short}"
        else:
            self.count += 1

    def _short_of(self, counted: list[Measured]) -> str:
        """Return what one process more would be short of; empty: nothing."""
        if (self.count + 1) * max(each.host for each in counted) > self.host_share:
            return "the machine's memory"
        last = min(counted, key=lambda each: each.free)
        if not last.total:
            return ""
        held = max(each.held for each in counted)
        # A process takes more of a device than its allocator holds; of that, each that is there has its part.
        beside = max(0, last.total - last.free - self.count * held) // self.count
        return "" if held + beside <= last.free else "the device's memory"
