"""What is seen of a run at one moment, wherever it is looked at."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from lotteryfl.protos import lotteryfl_pb2 as pb

MOST_ROUNDS = 200
"""Rounds that are looked back at."""

SECONDS = 1.0
"""Between two looks at a run of which nothing is heard."""

SHARE = 5.0
"""For how many times as long as a look took nobody looks again: who looks at a busy machine does not make it busier."""


class Look(NamedTuple):
    """A run at one moment."""

    status: pb.RunStatus
    fleet: pb.Fleet | None = None
    """What its workers are at; None: that is not known here."""
    rounds: Sequence[pb.RoundSummary] = ()
    """Rounds that have been committed since the last look, in order."""
    events: Sequence[pb.Event] = ()
    """What has happened since the last look, the newest of it."""
    trouble: str = ""
    """Why this is how it was before; '': it is how it is now."""
    is_driven: bool = True
    """Whether a process has the run; of one that has ended it does not matter."""

    @property
    def is_last(self) -> bool:
        """Whether the run has ended."""
        return self.status.state != pb.RunStatus.RUNNING and not self.trouble


class Source(Protocol):
    """Where a run is looked at."""

    def status(self) -> pb.RunStatus:
        """Return where it stands now."""

    def is_driven(self) -> bool:
        """Tell whether a process has it."""

    def fleet(self) -> pb.Fleet | None:
        """Return what its workers are at; None: that is not known here."""

    def clients(self) -> pb.Clients:
        """Return how its clients stand."""

    def looks(self) -> Iterator[Look]:
        """Look at it again and again, until it has ended."""


def first_of_last(last: int, after: int) -> int:
    """Return the first round to be read when these before are known, so that there are not too many.

    Args:
        last: the last committed round.
        after: the last that is known.
    """
    return max(after + 1, last - MOST_ROUNDS + 1)
