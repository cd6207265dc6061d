"""Whoever has started a worker as one of several, as far as the worker knows of them."""

from collections.abc import Callable

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.memory.peak import Peak


class DoneWithError(LotteryFLError):
    """The overseer has enough workers without this one: it leaves once it has nothing under work."""

    def __init__(self) -> None:
        super().__init__("fewer workers do here")


class Overseer:
    """Hears how the work goes, and may want the worker to leave. This one is nobody: a worker of its own."""

    def registered(self, threads: int) -> None:
        """Hear that the worker takes part, with so many threads of torch's."""

    def done(self, examples: int, seconds: float, peak: Peak) -> None:
        """Hear of an assignment whose result has counted: what it was trained on, how long it took, and what memory."""

    def short_of_memory(self) -> None:
        """Hear that an assignment went back because there was not the memory that it takes."""

    def on_done_with(self, leave: Callable[[], object]) -> None:
        """Have a function called, in any thread, when the worker is to leave; at once where that has been said."""
