"""What a run is judged by: one number of every evaluation, and which way it is better."""

import math
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

MAX_VALUES = 32
"""Metrics of an evaluation beside the loss; what is measured travels with every result and is kept of it."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_TAKEN = frozenset({"round", "client", "phase", "examples", "loss", "density", "train_loss", "seconds"})
"""What else is known of an evaluation goes by these names."""


@dataclass(frozen=True)
class Score:
    """The one number that gates, tables and reports go by."""

    name: str = "accuracy"
    """One of the metrics, or "loss"."""
    higher_is_better: bool = True
    own: bool = False
    """A task's objective names it; otherwise the task is classification."""

    @classmethod
    def of(cls, name: str, *, higher_is_better: bool = True) -> Self:
        """Return the score that is on record under a name; empty: the task is classification."""
        return cls(name, higher_is_better, own=True) if name else cls()

    def __str__(self) -> str:
        return f"{self.name} ({'higher' if self.higher_is_better else 'lower'} is better)"

    @property
    def digits(self) -> str:
        """How it is written, as format() has it: accuracies to a thousandth, of others nobody knows the size."""
        return ".4g" if self.own else ".3f"

    def first_of(self, names: Iterable[str]) -> list[str]:
        """Return names of metrics in the order in which people read them: the score, then by the alphabet."""
        return sorted(names, key=lambda name: (name != self.name, name))

    def rank(self, value: float) -> float:
        """Return a number that is the larger, the better the score is."""
        return value if self.higher_is_better else -value

    def lenient(self, value: float, share: float) -> float:
        """Return a score that is easier to reach than `value`: so much of it, or, where less is better, the inverse."""
        if (value > 0) == self.higher_is_better:
            return value * share
        return math.copysign(min(abs(value) / max(share, sys.float_info.min), sys.float_info.max), value)

    def best(self, values: Iterable[float]) -> float:
        """Return the best of some scores.

        Raises:
            ValueError: there is none.
        """
        return max(values, key=self.rank)


ACCURACY = Score()
"""Of classification."""


def refused_name(name: str) -> str:
    """Say what is wrong with a metric's name; empty: nothing."""
    if name in _TAKEN:
        return "is taken: expected another name"
    return "" if _NAME.fullmatch(name) else "expected a letter and up to 63 letters, digits and underscores, lower case"
