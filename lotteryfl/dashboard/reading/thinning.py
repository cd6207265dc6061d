"""Of more rounds than a picture has room for, those that it is drawn of: all were rounds, and no peak is lost."""

from collections.abc import Sequence
from typing import Any

from lotteryfl.dashboard.reading.rounds import Rounds

_LOOKED_AT = ("downloaded", "personalised", "train_loss")
"""Of these the lowest and the highest of each stretch of rounds are kept."""


def series(rounds: Rounds, points: int, first: int = 1, last: int | None = None) -> dict[str, Any]:
    """Return the series of the rounds from `first` to `last`, of at most so many of them.

    Args:
        rounds: all that are committed.
        points: how many there may be.
        first: the first of them, by its number.
        last: the last of them; None: to the end.
    """
    places = [
        place for place, number in enumerate(rounds.numbers) if number >= first and (last is None or number <= last)
    ]
    if len(places) <= points:
        return rounds.of(places, thinned=False)
    return rounds.of(_thinned(rounds, places, points), thinned=True)


def _thinned(rounds: Rounds, places: Sequence[int], points: int) -> list[int]:
    looked_at = [rounds.columns[name] for name in _LOOKED_AT]
    if all(loss is None for loss in rounds.columns["train_loss"]):
        looked_at[-1] = rounds.columns["loss_personalised"]
    inner, stretches = places[1:-1], max(1, (points - 2) // (2 * len(looked_at)))
    kept = {places[0], places[-1]}
    for number in range(stretches):
        stretch = inner[len(inner) * number // stretches : len(inner) * (number + 1) // stretches]
        for column in looked_at:
            known = [place for place in stretch if column[place] is not None and column[place] == column[place]]
            if known:
                kept |= {min(known, key=column.__getitem__), max(known, key=column.__getitem__)}
    return sorted(kept)
