"""Feeds a tracker with a run, round by round: one that goes on, and one that is over from its first round on."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.faults import fault
from lotteryfl.server.results.following import Follower
from lotteryfl.server.results.trackers.figures import Figures, Final, card_of, figures, read_final
from lotteryfl.server.results.trackers.onefeed import OneFeed
from lotteryfl.server.results.trackers.runsend import RunsEnd
from lotteryfl.server.results.trackers.tracker import Target, Tracker, without_secrets
from lotteryfl.server.store.record import RunRecord, damage_named
from lotteryfl.server.store.rundb.database import Database

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a tracker that is down is tried again, the first time and after many."""


class TrackerDownError(LotteryFLError):
    """A tracker does not take what it is sent: the message names it, and what it raised."""


class Feed:
    """One run on its way into one tracker, in a thread that nobody waits for but at the end."""

    def __init__(
        self, path: Path, target: Target, end: RunsEnd, say: Callable[[str], None], interval: float = 1.0
    ) -> None:
        """Set what is fed.

        Args:
            path: the run directory.
            target: the tracker.
            end: of the run, or of this process's part in it.
            say: is told, in a line, when the tracker is down, and when it is back.
            interval: seconds between two looks at the directory.

        Raises:
            LotteryFLError: there is no run, or it is damaged.
        """
        where = target.where(path)
        self.shown = target.shown(path)
        """The tracker's name for messages."""
        self._path = path
        self._end = end
        self._say = say
        self._interval = interval
        self._one = OneFeed(path, target.tracker.kind, where)
        with damage_named(path), RunRecord(path) as run:
            card, experiment = card_of(run), run.experiment
        self._tracker: Tracker = target.tracker(card, where, self._one)
        self._follower = Follower(path, partial(_figures, experiment))
        self._state = "running"
        self._is_connected = self._is_down = False
        self._last: Figures | None = None  # that the tracker has

    def run(self) -> None:
        """Send all rounds, and those that come until the end.

        Raises:
            TrackerDownError: the tracker does not have them all when there is no time left.
            LotteryFLError: the run directory cannot be read, or another process feeds the tracker.
        """
        self._wait_for_others()
        try:
            self._deliver(_nothing)  # the run is there, with its settings, before its first round is over
            while True:
                is_last = self._end.has_begun
                found = self._follower.look()
                if found is not None:
                    self._state = found.state
                    if found.items:
                        self._deliver(partial(self._send, found.items))
                if is_last and not self._follower.is_in_doubt:
                    break
                self._end.pause(self._interval)
            final = self._final()
            self._deliver(partial(self._tracker.finish, self._state, final, self._last))
        finally:
            self._one.end()

    def _wait_for_others(self) -> None:
        told = False
        while not self._one.begin():
            if self._end.seconds_left <= 0:
                raise LotteryFLError(f"{self.shown}: another process feeds it with {self._path}")
            if not told:
                self._say(f"{self.shown}: another process feeds it; it is waited for")
                told = True
            self._end.pause(self._interval)

    def _send(self, rounds: Sequence[Figures]) -> None:
        self._tracker.send(rounds)
        self._last = rounds[-1]

    def _final(self) -> Final | None:
        """Return what the run came to; its coordinator writes that down after its goodbye to the workers."""
        if self._state != "finished":
            return None
        while (final := read_final(self._path)) is None and self._end.seconds_left > 0:
            self._end.pause(self._interval)
        return final

    def _deliver(self, send: Callable[[], None]) -> None:
        """Have it done, for as long as there is time."""

        def attempt() -> None:
            try:
                if not self._is_connected:
                    self._tracker.connect()
                    self._is_connected = True
                    fault("tracker-connected")
                send()
                fault("tracker-sent")
            except Exception as error:  # whatever its library raises: none of it may end the others
                self._is_connected = False
                what = " ".join(f"{type(error).__name__}: {error}".split())
                raise TrackerDownError(f"{self.shown}: {without_secrets(what)}") from error

        Retrying(
            retry=retry_if_exception_type(TrackerDownError),
            wait=wait_exponential(_FIRST_PAUSE, _LONGEST_PAUSE),
            stop=lambda _: self._end.seconds_left <= 0,
            sleep=self._end.pause,
            before_sleep=self._say_down,
            reraise=True,
        )(attempt)
        if self._is_down:
            self._is_down = False
            self._say(f"{self.shown}: takes what it is sent again")

    def _say_down(self, state: RetryCallState) -> None:
        if not self._is_down and state.outcome is not None:
            self._is_down = True
            self._say(f"{state.outcome.exception()}; the run goes on, and this is tried again")


def _nothing() -> None:
    """Only connect."""


def _figures(experiment: Experiment, database: Database, first: int) -> list[Figures]:
    return figures(database, experiment, first)
