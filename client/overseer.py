"""Whoever has started a worker as one of several, as far as the worker knows of them."""

from lotteryfl.common.memory.peak import Peak


class Overseer:
    """Hears how the work goes, and may want the worker to leave. This one is nobody: a worker of its own."""

    def registered(self, threads: int) -> None:
        """Hear that the worker takes part, with so many threads of torch's."""

    def done(self, examples: int, seconds: float, peak: Peak) -> None:
        """Hear of an assignment whose result has counted: what it was trained on, how long it took, and what memory."""

    def short_of_memory(self) -> None:
        """Hear that an assignment went back because there was not the memory that it takes."""

    @property
    def is_done_with(self) -> bool:
        """Whether the worker is to leave once it has nothing under work."""
        return False
