"""What of a run's past observers ask for, by the page: each is a look at few rows of run.db."""

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundb.events import MOST_SENT, newest_events
from lotteryfl.server.store.summaries import round_summaries

_MOST_ROUNDS = 10
_LAST_ID = 2**63 - 1


def rounds_after(database: Database, after: int) -> pb.Rounds:
    """Return the next committed rounds, in order, with the means over their clients.

    Args:
        database: of the run.
        after: later than this one.
    """
    query = "SELECT round FROM rounds WHERE state = 'committed' AND round > ? ORDER BY round LIMIT ?"
    numbers = [number for (number,) in database.select(query, after, _MOST_ROUNDS)]
    return pb.Rounds(rounds=round_summaries(database, numbers[0], numbers[-1]) if numbers else ())


def events_after(database: Database, after: int, most: int) -> pb.Events:
    """Return the newest events, the oldest of them first.

    Args:
        database: of the run.
        after: later than this one, by its id.
        most: how many; 0: as many as travel at once.
    """
    found = newest_events(database, min(after, _LAST_ID), min(most or MOST_SENT, MOST_SENT))
    return pb.Events(events=[pb.Event(**event._asdict()) for event in found])
