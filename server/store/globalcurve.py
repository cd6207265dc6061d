"""The shared model on the task's global test data, every so many rounds: the curve that papers draw."""

from typing import NamedTuple

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.rundb.database import Database

_SHARES = ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "micro_precision", "micro_recall")
"""What is measured of a classifier beside its loss."""


class Point(NamedTuple):
    """One measurement of the shared model."""

    round: int
    """The round after which it was so; 0: it is θ_0."""
    measured: int
    """The round in which it was measured."""
    examples: int
    values: dict[str, float]
    """By name: the score first, then by the alphabet all else that is measured, the loss too."""


def global_curve(database: Database, most: int = -1) -> list[Point]:
    """Return what was measured in the committed rounds, in order.

    A point is missing where its round was committed without the client whose worker was to measure.

    Args:
        database: of the run.
        most: how many of the last points; -1: all.
    """
    early = database.ended_early()
    rows = database.select(
        f"SELECT round, client, examples, loss, {', '.join(_SHARES)} FROM metrics JOIN rounds USING (round) "  # noqa: S608
        "WHERE phase = 'shared' AND state = 'committed' AND round > 0 ORDER BY round DESC LIMIT ?",
        most,
    ).fetchall()
    points = []
    for round_, client, examples, loss, *shares in reversed(rows):
        known = _own(database, round_, client) if database.score.own else dict(zip(_SHARES, shares, strict=True))
        known["loss"] = loss
        after = early if early and round_ > early else round_ - 1
        points.append(Point(after, round_, examples, {name: known[name] for name in database.score.first_of(known)}))
    return points


def _own(database: Database, round_: int, client: int) -> dict[str, float]:
    query = "SELECT name, value FROM measures WHERE (round, client, phase) = (?, ?, 'shared')"
    return dict(database.select(query, round_, client).fetchall())


def last_shared(database: Database) -> pb.SharedModel | None:
    """Return the last point, as a status has it; None: there is none."""
    for last in global_curve(database, 1):
        return pb.SharedModel(after=last.round, examples=last.examples, values=last.values)
    return None
