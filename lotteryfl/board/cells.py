"""The columns of a board's tables, and how their numbers are written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from lotteryfl.board.entries import Race
from lotteryfl.board.figures import Figure, Figures
from lotteryfl.common.training.score import Score
from lotteryfl.records.cost import SHARES

NONE = "–"
_MINUTE, _HOUR = 60, 3600


@dataclass(frozen=True)
class Column:
    """A number of every setting."""

    label: str
    title: str
    """What it is, in a sentence."""
    figure: Callable[[Figures], Figure | None]
    written: Callable[[float], str]
    spread: bool = True
    """Show its spread over seeds."""

    def cell(self, figures: Figures) -> str:
        """Return the cell of a row, with what it is sorted by."""
        found = self.figure(figures)
        if found is None:
            return f'<td class="number">{NONE}</td>'
        std = f' <span class="muted">± {escape(self.written(found.std))}</span>' if self.spread and found.std else ""
        return f'<td class="number" data-value="{found.mean!r}">{escape(self.written(found.mean))}{std}</td>'


def columns(race: Race, wanted: Sequence[float], rows: Sequence[Figures]) -> list[Column]:
    """Return the columns of a race, without those in which nobody has anything."""
    score = race.record.judged.score
    found = [*_scores(score), *_costs(score, wanted)]
    return [column for column in found if any(column.figure(row) for row in rows)]


def _scores(score: Score) -> list[Column]:
    def of(label: str, title: str, figure: Callable[[Figures], Figure | None]) -> Column:
        return Column(label, title, figure, lambda value: format(value, score.digits))

    means = f"Mean {score.name} over clients on their own test data, after the last round:"
    return [
        Column("Density", "Kept share of the prunable weights", lambda row: row.density, "{:.3f}".format, spread=False),
        of("Personalised", f"{means} after local training", lambda row: row.personalised),
        of(
            "Worst tenth",
            f"Mean personalised {score.name} of the worst tenth of the clients",
            lambda row: row.worst_tenth,
        ),
        of("Downloaded", f"{means} of the model as they got it", lambda row: row.downloaded),
        of("Shared", f"The shared model's {score.name} on the task's global test data", lambda row: row.shared),
        of(
            "New clients",
            "Personalised, of clients that took part in no round that trains",
            lambda row: row.new_clients,
        ),
    ]


def _costs(score: Score, wanted: Sequence[float]) -> list[Column]:
    def megabytes(value: float) -> str:
        return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"

    def reached(place: int) -> Callable[[Figures], Figure | None]:
        return lambda row: row.megabytes_to[place]

    sent = "10^6 bytes of tensors with their frames, down and up, as they were sent"
    to = [
        Column(
            f"MB to {share:.0%}",
            f"The same until {target:{score.digits}} was reached, {share:.0%} of the best here",
            reached(place),
            megabytes,
        )
        for place, (share, target) in enumerate(zip(SHARES, wanted, strict=True))
    ]
    return [
        Column("MB", f"{sent}, in the whole run", lambda row: row.megabytes, megabytes),
        *to,
        Column("Rounds", "That train; one more measures every client", lambda row: row.rounds, "{:,.0f}".format),
        Column(
            "Time",
            "Of all rounds, by the wall clock, wherever it was run",
            lambda row: row.seconds,
            duration,
            spread=False,
        ),
    ]


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < _HOUR else f"{seconds / _HOUR:.1f} h"
