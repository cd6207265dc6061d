"""One run directory, read again and again: what has not changed is not read twice."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.training.score import Score
from lotteryfl.dashboard.reading.events import Tail, tail
from lotteryfl.dashboard.reading.rounds import Rounds, read_rounds
from lotteryfl.dashboard.reading.standing import Facts, read_facts
from lotteryfl.dashboard.reading.workers import Served, read_served
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.following import Stamps, stamps
from lotteryfl.server.store.record import RunRecord, looked_at
from lotteryfl.server.store.status import status_of

T = TypeVar("T")


class Snapshot(NamedTuple):
    """One moment of a run, as its directory tells it."""

    run_id: str
    experiment: Experiment
    score: Score
    status: pb.RunStatus
    facts: Facts
    rounds: Rounds
    served: Served
    events: Tail


class RunReader:
    """Reads one run directory. One thread at a time may use it."""

    def __init__(self, path: Path) -> None:
        """Set which."""
        self._path = path
        self._of = ""
        self._rounds = Rounds()

    def stamps(self) -> Stamps:
        """Return what differs whenever run.db has changed."""
        return stamps(self._path)

    def read(self) -> Snapshot:
        """Read all that every viewer sees.

        Raises:
            LotteryFLError: there is no run, or it is damaged.
        """
        return self.call(self._snapshot)

    def call(self, function: Callable[[RunRecord], T]) -> T:
        """Return what a function reads, all of it of one moment.

        The database is open no longer than that: whoever writes it gathers it into one file when nobody else has it.

        Raises:
            LotteryFLError: there is no run, or it is damaged.
        """
        with looked_at(self._path) as record:
            return function(record)

    def _snapshot(self, run: RunRecord) -> Snapshot:
        if run.run_id != self._of:
            self._of, self._rounds = run.run_id, Rounds()
        self._rounds = read_rounds(run.database, run.experiment, self._rounds)
        return Snapshot(
            run.run_id,
            run.experiment,
            run.score,
            status_of(run),
            read_facts(run, self._rounds),
            self._rounds,
            read_served(run),
            tail(run.database),
        )
