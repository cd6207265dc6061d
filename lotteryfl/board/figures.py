"""What a setting comes to over its seeds, and what its race's best score has cost it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from lotteryfl.board.entries import Entry, Race, Setting
from lotteryfl.common.training.score import Score
from lotteryfl.records.cost import SHARES, Judged, curve, megabytes_to
from lotteryfl.records.record import Record
from lotteryfl.server.results.spread import spread


@dataclass(frozen=True)
class Figure:
    """A number over seeds."""

    mean: float
    std: float
    """Population standard deviation; of one seed 0."""


@dataclass(frozen=True)
class Figures:
    """What a setting, or one member of it, comes to; None: not measured, hidden, or not every seed got there."""

    personalised: Figure | None
    worst_tenth: Figure | None
    shared: Figure | None
    downloaded: Figure | None
    new_clients: Figure | None
    density: Figure | None
    megabytes: Figure | None
    """10^6 bytes, down and up, in the whole run."""
    megabytes_to: tuple[Figure | None, ...]
    """Until the race's score was so much of its best, by `SHARES`."""
    rounds: Figure | None
    seconds: Figure | None


def judged_by(race: Race) -> Judged:
    """Return by which score a race is: its protocol's, or else the personalised one, or the shared one alone."""
    wanted = race.protocol.score if race.protocol else "personalised"
    if wanted == "downloaded":
        return wanted
    has_curve = all(entry.record.shared for setting in race.settings for entry in setting.counted)
    return "shared" if wanted == "shared" and has_curve else "personalised"


def score_of(race: Race) -> Score:
    """Return the score that a race's runs are judged by."""
    return race.record.judged.score


def ranked(race: Race) -> Race:
    """Return a race with its settings in order: the best after the last round first, by the mean over seeds."""
    by, score = judged_by(race), score_of(race)

    def mean(setting: Setting) -> float:
        return spread([curve(entry.record, by)[1][-1] for entry in setting.counted]).mean

    return replace(race, settings=tuple(sorted(race.settings, key=lambda each: -score.rank(mean(each)))))


def best_of(race: Race) -> float:
    """Return the best that any setting of a race had in any round, mean over seeds."""
    by, score = judged_by(race), score_of(race)
    return score.best(
        spread([score.best(curve(entry.record, by)[1]) for entry in setting.counted]).mean for setting in race.settings
    )


def targets(race: Race) -> list[float]:
    """Return the scores up to which bytes are counted."""
    best = best_of(race)
    return [score_of(race).lenient(best, share) for share in SHARES]


def figures(entries: Sequence[Entry], race: Race, wanted: Sequence[float]) -> Figures:
    """Sum records of one setting up.

    Args:
        entries: one for each seed.
        race: that the setting is of.
        wanted: what `targets` returned of it.
    """
    by = judged_by(race)

    def over(value: Callable[[Record], float | None]) -> Figure | None:
        values = [value(entry.record) for entry in entries]
        known = [each for each in values if each is not None]
        if len(known) < len(values):
            return None
        found = spread(known)
        return Figure(found.mean, found.std)

    return Figures(
        personalised=over(lambda record: record.scores.personalised),
        worst_tenth=over(lambda record: record.scores.worst_tenth),
        shared=over(lambda record: record.scores.shared),
        downloaded=over(lambda record: record.scores.downloaded),
        new_clients=over(lambda record: record.scores.new_personalised),
        density=over(lambda record: record.density),
        megabytes=over(lambda record: record.megabytes),
        megabytes_to=tuple(over(partial(megabytes_to, by=by, target=target)) for target in wanted),
        rounds=over(lambda record: float(record.rounds_trained)),
        seconds=over(lambda record: record.seconds),
    )


def setting_figures(setting: Setting, race: Race, wanted: Sequence[float]) -> Figures:
    """Sum a setting up, each seed once."""
    return figures(setting.counted, race, wanted)
