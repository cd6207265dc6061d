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


def read_snapshot(path: Path, known: Snapshot | None = None) -> Snapshot:
    """Read all of a run that every viewer sees.

    Args:
        path: its directory.
        known: what was read before; its rounds are not read again.

    Raises:
        LotteryFLError: there is no run, or it is damaged.
    """
    with looked_at(path) as run:
        before = known.rounds if known and known.run_id == run.run_id else Rounds()
        rounds = read_rounds(run.database, run.experiment, before)
        return Snapshot(
            run.run_id,
            run.experiment,
            run.score,
            status_of(run),
            read_facts(run, rounds),
            rounds,
            read_served(run),
            tail(run.database),
        )


def call(path: Path, function: Callable[[RunRecord], T]) -> T:
    """Return what a function reads of a run, all of it of one moment.

    The database is open no longer than that: whoever writes it gathers it into one file when nobody else has it.

    Raises:
        LotteryFLError: there is no run, or it is damaged.
    """
    with looked_at(path) as run:
        return function(run)
