"""The run and its workers as numbers, for who only looks."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple, Self, get_args

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.ledger import Ledger
from lotteryfl.server.rounds.workers import WorkerRegistry
from lotteryfl.server.store.assignments import State


class Tally(NamedTuple):
    """Where a run stands, and what has happened in it."""

    state: str
    """One of running, finished, failed."""
    committed: int
    """Rounds that are committed."""
    round: int
    """The open round, or the one that comes next."""
    retries: int
    """How often the open round was tried again."""
    assignments: Mapping[State, int]
    """Of the open round, by how they stand."""
    happened: Mapping[str, int]
    """As `Ledger.happened`."""
    refused: int
    """Results that were refused, in the whole run."""
    aside: int
    """Workers, by certificate or token, that get no more work."""
    devices: Mapping[str, int]
    """Workers that are alive by their kind of device, as they say it."""
    down: int
    """Bytes that were sent, as far as they are on record: what is not is lost with the process."""
    up: int
    """Bytes that were received, as far as they are on record."""
    last: pb.RoundSummary | None
    """The last committed round."""

    @classmethod
    def of(cls, ledger: Ledger, workers: WorkerRegistry, alive_since: float) -> Self:
        """Count; looked at are those workers that are alive."""
        table = ledger.round.assignments
        down, up = ledger.traffic.on_record
        return cls(
            state=ledger.state,
            committed=ledger.committed,
            round=ledger.round.number,
            retries=ledger.round.retries,
            assignments={state: table.count(state) for state in get_args(State)},
            happened=ledger.happened,
            refused=ledger.refusals.results,
            aside=ledger.refusals.aside,
            devices=Counter(worker.machine.kind for worker in workers.alive(alive_since)),
            down=down,
            up=up,
            last=ledger.last,
        )
