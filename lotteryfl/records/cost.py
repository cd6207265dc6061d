"""What a score has cost: the bytes that were sent until a run had it."""

from collections.abc import Sequence
from typing import Literal

from lotteryfl.records.record import Record

Judged = Literal["personalised", "downloaded", "shared"]
"""By which of a record's scores: those that there is a curve of."""

SHARES = (0.9, 0.99)
"""Of the best score, up to which bytes are counted."""


def curve(record: Record, by: Judged) -> tuple[Sequence[int], Sequence[float]]:
    """Return bytes sent until then, and scores, by measurement; of what was not measured nothing."""
    rounds = record.rounds
    if by != "shared":
        return rounds.sent, rounds.downloaded if by == "downloaded" else rounds.personalised
    if record.shared is None:
        return (), ()
    return tuple(map(rounds.sent_after, record.shared.round)), record.shared.score


def megabytes_to(record: Record, by: Judged, target: float) -> float | None:
    """Return the 10^6 bytes, both ways, until a measurement was as good as the target; None: none was."""
    rank = record.judged.score.rank
    reached = (sent for sent, value in zip(*curve(record, by), strict=True) if rank(value) >= rank(target))
    found = next(reached, None)
    return None if found is None else found / 1e6
