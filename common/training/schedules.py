"""How the learning rate goes: a factor for every position, counted in rounds or in a round's steps."""

import math
from typing import Annotated, Literal

from pydantic import Field

from lotteryfl.common.section import Count, Section

_Factor = Annotated[float, Field(gt=0, le=1)]


class Schedule(Section):
    """A factor of `training.lr` that is a function of the position alone, so that whoever knows that knows all."""

    kind: Literal["constant", "step", "exponential", "cosine", "linear"] = "constant"
    """Shape of the factor, after the warm-up."""
    gamma: _Factor = 0.99
    """Factor of each step down (step, exponential)."""
    every: Count = 10
    """Positions between steps down (step)."""
    end: _Factor = 0.01
    """Factor of the last position; 0 would be work for nothing (cosine, linear)."""
    warmup: int = Field(0, ge=0, le=2**31 - 1)
    """Positions on which the factor first rises to 1, in equal steps; the schedule begins after them."""

    @property
    def is_constant(self) -> bool:
        """Whether the factor is 1 everywhere."""
        return self.kind == "constant" and not self.warmup

    @property
    def depends_on_length(self) -> bool:
        """Whether a position's factor depends on how many there are."""
        return self.kind in ("cosine", "linear")

    def factor(self, position: int, length: int) -> float:
        """Return the factor of one position.

        Args:
            position: from 0.
            length: how many positions there are; those beyond have the factor of the last.
        """
        if position < self.warmup:
            return (position + 1) / (self.warmup + 1)
        gone = position - self.warmup
        if self.kind == "step":
            return self.gamma ** (gone // self.every)
        if self.kind == "exponential":
            return self.gamma**gone
        share = min(gone / max(length - 1 - self.warmup, 1), 1.0)
        if self.kind == "cosine":
            return self.end + (1 - self.end) * (1 + math.cos(math.pi * share)) / 2
        return 1 - (1 - self.end) * share if self.kind == "linear" else 1.0
