"""Where values are in a picture, and where its axes are labelled."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 5.0)
_MOST_TICKS = 6
_ROOM = 0.06
"""Share of the values' range that is left free at both ends."""


@dataclass(frozen=True)
class Axis:
    """From values to pixels; of a logarithmic one, values are more than 0."""

    low: float
    high: float
    first: float
    """The pixel of `low`."""
    last: float
    logarithmic: bool = False

    @classmethod
    def of(cls, values: Sequence[float], first: float, last: float, *, logarithmic: bool = False) -> "Axis":
        """Return an axis on which all values are, with some room at its ends."""
        scaled = [math.log10(value) for value in values] if logarithmic else list(values)
        low, high = min(scaled), max(scaled)
        room = max((high - low) * _ROOM, abs(high) * 1e-3, 1e-9)
        low, high = low - room, high + room
        return cls(10**low if logarithmic else low, 10**high if logarithmic else high, first, last, logarithmic)

    def at(self, value: float) -> float:
        """Return a value's pixel."""
        low, high, value = (math.log10(each) if self.logarithmic else each for each in (self.low, self.high, value))
        return self.first + (value - low) / (high - low) * (self.last - self.first)

    def ticks(self) -> list[float]:
        """Return up to a few round numbers on the axis."""
        found = self._powers() if self.logarithmic else []
        return found if len(found) > 1 else self._even()

    def _powers(self) -> list[float]:
        """Return powers of ten, and doubles and halves of them where there is room."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for steps in (_STEPS, (1.0,)):
            found = [step * 10.0**power for power in powers for step in steps]
            inside = [value for value in found if self.low <= value <= self.high]
            if len(inside) <= _MOST_TICKS + 2:
                return inside
        return inside[:: math.ceil(len(inside) / _MOST_TICKS)]

    def _even(self) -> list[float]:
        """Return multiples of 1, 2 or 5 of a power of ten."""
        least = (self.high - self.low) / _MOST_TICKS
        power = 10.0 ** math.floor(math.log10(least))
        step = next(each * power for each in (*_STEPS, 10.0) if each * power >= least)
        first = math.ceil(self.low / step)
        return [float(f"{number * step:.12g}") for number in range(first, math.floor(self.high / step) + 1)]
