"""What a tracker of experiments is to a run: somewhere to be found again, to add rounds to, and to be told the end."""

import importlib.util
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.server.results.trackers.figures import Figures, Final, RunCard
from lotteryfl.server.results.trackers.onefeed import OneFeed

_URL = re.compile(r"(\w[\w+.-]*://)(?:[^\s/@]*@)?([^\s?'\"]*)(?:\?[^\s'\"]*)?")


class Tracker(ABC):
    """One run in one tracker. What its library raises may be over later: the caller connects again then."""

    kind: ClassVar[str]
    """What the user calls it, which is the name of the extra that it needs, too."""
    module: ClassVar[str]
    """What must be installed."""

    def __init__(self, run: RunCard, where: str, feed: OneFeed) -> None:
        """Set what is told, and to whom; nobody is asked yet.

        Args:
            run: what is told first.
            where: the place, as the user named it.
            feed: this process's part in it.
        """
        self._run = run
        self._where = where
        self._feed = feed

    @classmethod
    @abstractmethod
    def usual_place(cls, path: Path) -> str:
        """Return where a run directory's figures go if the user names no place."""

    @abstractmethod
    def connect(self) -> None:
        """Find the run, or begin it, and ask what it has by now."""

    @abstractmethod
    def send(self, rounds: Sequence[Figures]) -> None:
        """Add what it has not of these rounds, and return when it has it."""

    @abstractmethod
    def finish(self, state: str, final: Final | None, last: Figures | None) -> None:
        """Say how the run stands when no more is sent.

        Args:
            state: finished, failed, or still running.
            final: what it came to, if it has finished.
            last: its last round, if there is one.
        """


class Target(NamedTuple):
    """A tracker as the user names it: KIND or KIND=PLACE."""

    tracker: type[Tracker]
    place: str
    """Empty: the usual one."""

    def require(self, option: str) -> None:
        """Refuse a tracker whose library is not here.

        Args:
            option: by which the user asked for it.

        Raises:
            LotteryFLError: naming the extra.
        """
        if importlib.util.find_spec(self.tracker.module) is None:
            kind = self.tracker.kind
            raise LotteryFLError(f"{option} needs {kind}: pip install 'lotteryfl[{kind}]'")

    def where(self, path: Path) -> str:
        """Return the place for a run directory's figures."""
        return self.place or self.tracker.usual_place(path)

    def shown(self, path: Path) -> str:
        """Return the same for messages: without a password that may be in a URL."""
        return f"{self.tracker.kind} {without_secrets(self.where(path))}"


def without_secrets(text: str) -> str:
    """Return a text without what of URLs in it is for their servers alone: users, passwords and queries."""
    return _URL.sub(r"\1\2", text)
