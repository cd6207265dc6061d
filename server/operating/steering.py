"""What operators say of a run: it pauses and goes on, ends with its open round, and gives work to who was put aside."""

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.identity import owner_of
from lotteryfl.common.text import brief, printable
from lotteryfl.server.store.events import Events
from lotteryfl.server.store.refusals import Refusals
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundb.steered import paused, put_paused, put_readmitted
from lotteryfl.server.store.rundir import RunDirectory

HERE = "somebody on this machine"
"""Who steers a run where nobody is asked who they are."""


class SteeringError(LotteryFLError):
    """That cannot be done with the run as it is."""


class Steering:
    """What was said of one run, on disk before it is so; that the process is to end, it alone has to know."""

    def __init__(self, database: Database, refusals: Refusals, events: Events) -> None:
        """Take up what was said before.

        Args:
            database: of the run.
            refusals: who has been put aside.
            events: among which it is written that it was said.
        """
        self._database = database
        self._refusals = refusals
        self._events = events
        self._paused = paused(database)
        self._drains = ""
        self.is_stopped = False
        """The process was told to end, which is on record."""
        self.is_drained = False
        """The round that was open when the process was told to drain, if any, is committed, and no other is begun."""

    @property
    def is_paused(self) -> bool:
        """Whether nothing is given out, and no time passes for the open round."""
        return bool(self._paused)

    @property
    def reason(self) -> str:
        """Why the run is paused, or comes to an end here; '': neither."""
        return self._paused or self._drains

    def pause(self, who: str, why: str) -> str:
        """Have no assignment given out any more, also after a restart; what is under work counts when it comes."""
        if self._paused:
            return f"the run is {self._paused} already"
        sentence = _sentence("paused", who, why)
        with self._events.transaction():
            put_paused(self._database, sentence)
            self._events.add("paused", sentence)
        self._paused = sentence
        return f"the run is {sentence}"

    def resume(self, who: str, why: str) -> str:
        """Let a run go on that is paused."""
        if not self._paused:
            return "the run was not paused"
        with self._events.transaction():
            put_paused(self._database, "")
            self._events.add("resumed", _sentence("resumed", who, why))
        self._paused = ""
        return "the run goes on"

    def drain(self, who: str, why: str) -> str:
        """Have the open round be the last of this process.

        Raises:
            SteeringError: the run is paused: nobody would bring the round to its end.
        """
        if self._paused:
            raise SteeringError(f"the run is {self._paused}: resume it to drain it, or stop it as it is")
        if not self._drains:
            self._drains = _sentence("the open round is the last here: drained", who, why)
        return "the coordinator ends when the open round is committed"

    def note_no_round(self, state: str) -> None:
        """Note that no round is under work: one was committed, or the next waits to be opened; and how it stands."""
        if self._drains and state == "running":
            with self._events.transaction():
                self._events.add("drained", self._drains)
            self.is_drained = True

    def stopped(self, who: str, why: str) -> str:
        """Put on record that the process is told to end."""
        if not self.is_stopped:
            with self._events.transaction():
                self._events.add("stopped", _sentence("stopped", who, why))
            self.is_stopped = True
        return "the coordinator ends"

    def readmit(self, worker: str, who: str, why: str) -> str:
        """Give work again to who was put aside, and to all that share its certificate or token.

        Raises:
            SteeringError: it is not aside.
        """
        name = owner_of(worker)
        if not self._refusals.why_aside(name):
            aside = ", ".join(each.worker for each in self._refusals.messages() if each.aside) or "nobody"
            raise SteeringError(f"worker {name!r} is not put aside; put aside: {aside}")
        forgiven = self._refusals.with_none_counted(name)
        with self._events.transaction():
            put_readmitted(self._database, name, forgiven.results)
            self._events.add("back", _sentence("gets work again", who, why), worker=name)
        self._refusals.put(name, forgiven)
        return f"worker {name} gets work again, once it is started again"


def resume_unattended(run: RunDirectory, why: str) -> str:
    """Let a run go on that is paused and that no other process has; `why` is for the record."""
    refusals = Refusals(run.database, run.experiment.checks.max_refusals)
    return Steering(run.database, refusals, Events(run.database)).resume(HERE, why)


def _sentence(what: str, who: str, why: str) -> str:
    reason = printable(brief(why))
    return f"{what} by {who}{f': {reason}' if reason else ''}"
