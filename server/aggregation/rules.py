"""What becomes of one block of elements: a rule for each way to put the clients' values together."""

from abc import ABC, abstractmethod

from lotteryfl.common.packedmasks import BLOCK, Indices
from lotteryfl.server.aggregation.update import Array


class Rule(ABC):
    """Puts the values of a model's tensors of one dtype together, block after block, in memory that it keeps.

    A block is worked on by numpy, in one thread: torch would share it out among threads, at whose end it waits for
    the slowest, for milliseconds where workers keep all cores busy.
    """

    block: int = BLOCK
    """Elements of a block at most, a multiple of 8."""

    @abstractmethod
    def start(self, size: int) -> None:
        """Start a block of `size` elements."""

    @abstractmethod
    def add(self, positions: Indices | None, values: Array, weight: float) -> None:
        """Add a client's values at distinct positions of the block; None: at all."""

    @abstractmethod
    def write(self, old: Array, out: Array) -> None:
        """Write the block's new values, rounded to the target's dtype; the old ones where nothing was added."""
