"""Whether a record agrees with itself: what it says of a run as a whole follows from what it says of its parts."""

from collections.abc import Iterable, Iterator, Sequence

from lotteryfl.common.text import quoted
from lotteryfl.records.differing import Difference
from lotteryfl.records.protocols import says_wrongly
from lotteryfl.records.record import MOST_POINTS, Record
from lotteryfl.server.results.spread import spread

_PRECISION = 2e-5
"""Relative: of means over rounded scores."""


def disagreements(record: Record) -> list[Difference]:
    """Return the fields of a record that do not follow from others of it, as far as its lists are told."""
    return [*_of_protocol(record), *_of_rounds(record), *_of_clients(record), *_of_shared(record)]


def _of_protocol(record: Record) -> Iterator[Difference]:
    if wrong := says_wrongly(record):
        yield Difference("protocol", quoted(wrong), "another experiment than that protocol's")


def _of_rounds(record: Record) -> Iterator[Difference]:
    rounds, scores, best = record.rounds, record.scores, record.judged.score.best
    if len(rounds.round) < MOST_POINTS and rounds.round[-1] != len(rounds.round):
        yield Difference("rounds.round", f"{len(rounds.round)} rounds up to {rounds.round[-1]}", "not all of them")
    if rounds.round[-1] > record.experiment.rounds + 1:
        yield Difference("rounds.round", str(rounds.round[-1]), f"{record.experiment.rounds + 1} rounds at most")
    yield from _unequal("down + up", record.down + record.up, rounds.sent[-1])
    yield from _unequal("density", record.density, rounds.density[-1])
    yield from _unequal("scores.personalised", scores.personalised, rounds.personalised[-1])
    yield from _unequal("scores.downloaded", scores.downloaded, rounds.downloaded[-1])
    yield from _unequal("scores.personalised_best", scores.personalised_best, best(rounds.personalised))
    yield from _unequal("scores.downloaded_best", scores.downloaded_best, best(rounds.downloaded))
    if not record.judged.own:
        told = {*rounds.personalised, *rounds.downloaded, *(record.clients.personalised if record.clients else ())}
        yield from (Difference("an accuracy", str(each), "in [0, 1]") for each in told if not 0 <= each <= 1)


def _of_clients(record: Record) -> Iterator[Difference]:
    clients, scores = record.clients, record.scores
    if clients is None or not clients.client:
        return
    yield from _unequal("scores.personalised", scores.personalised, _mean(clients.personalised))
    yield from _unequal("scores.downloaded", scores.downloaded, _mean(clients.downloaded))
    yield from _unequal("density", record.density, _mean(clients.density))
    worst = spread(clients.personalised, higher_is_better=record.judged.higher_is_better).worst_decile
    yield from _unequal("scores.worst_tenth", scores.worst_tenth, worst)
    if clients.client[-1] >= record.experiment.participants:
        most = record.experiment.participants - 1
        yield Difference("clients.client", str(clients.client[-1]), f"clients 0 to {most}")


def _of_shared(record: Record) -> Iterator[Difference]:
    if record.shared and max(record.shared.round) > record.rounds.round[-1]:
        yield Difference("shared.round", str(max(record.shared.round)), f"{record.rounds.round[-1]} rounds")
    curve = record.shared.score if record.shared else ()
    yield from _unequal("scores.shared", record.scores.shared, curve[-1] if curve else None)
    best = record.judged.score.best(curve) if curve else None
    yield from _unequal("scores.shared_best", record.scores.shared_best, best)


def _unequal(field: str, recorded: float | None, found: float | None) -> Iterable[Difference]:
    if recorded == found:
        return []
    if recorded is None or found is None or abs(recorded - found) > _PRECISION * max(abs(recorded), abs(found)):
        return [Difference(field, quoted(recorded), quoted(found))]
    return []


def _mean(values: Sequence[float]) -> float:
    return spread(values).mean
