"""Whether a record agrees with itself: what it says of a run as a whole follows from what it says of its parts."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

from lotteryfl.common.section import Section
from lotteryfl.common.text import quoted
from lotteryfl.records.differing import Difference
from lotteryfl.records.protocols import says_wrongly
from lotteryfl.records.record import MOST_POINTS, Record
from lotteryfl.server.results.spread import spread

_PRECISION = 2e-5
"""Relative: of means over rounded scores."""


def disagreements(record: Record) -> list[Difference]:
    """Return the fields of a record that do not follow from others of it, as far as its lists are told, each once."""
    parts = (_of_protocol, _of_rounds, _of_clients, _of_shared, _of_accuracies)
    found: dict[str, Difference] = {}
    for difference in itertools.chain.from_iterable(part(record) for part in parts):
        found.setdefault(difference.field, difference)
    return list(found.values())


def _of_protocol(record: Record) -> Iterator[Difference]:
    if wrong := says_wrongly(record):
        yield Difference("protocol", quoted(wrong), "another experiment than that protocol's")


def _of_rounds(record: Record) -> Iterator[Difference]:
    rounds, scores, best = record.rounds, record.scores, record.judged.score.best
    told, whole = rounds.round, record.experiment.rounds + 1
    if told[-1] != whole:
        yield Difference("rounds.round", f"{len(told)} rounds up to {told[-1]}", f"{whole} as the last")
    elif len(told) < min(whole, MOST_POINTS) and not _ended_early(record):
        yield Difference("rounds.round", f"{len(told)} rounds up to {told[-1]}", "not all of them")
    yield from _other("down + up", record.down + record.up, rounds.sent[-1])
    yield from _unequal("density", record.density, rounds.density[-1])
    yield from _other("scores.personalised", scores.personalised, rounds.personalised[-1])
    yield from _other("scores.downloaded", scores.downloaded, rounds.downloaded[-1])
    yield from _other("scores.personalised_best", scores.personalised_best, best(rounds.personalised))
    yield from _other("scores.downloaded_best", scores.downloaded_best, best(rounds.downloaded))


def _ended_early(record: Record) -> bool:
    """Tell whether rounds may be missing before the last, as `evaluation.patience` has it."""
    *trained, _ = record.rounds.round
    return record.experiment.evaluation.patience > 0 and trained == list(range(1, len(trained) + 1))


def _of_accuracies(record: Record) -> Iterator[Difference]:
    if record.judged.own:
        return
    for name in ("scores", "rounds", "shared", "clients"):
        table: Section | None = getattr(record, name)
        shares = table.model_dump(exclude={"round", "sent", "client"}) if table else {}
        for key, told in shares.items():
            values = told if isinstance(told, tuple) else (told,)
            if wrong := [value for value in values if value is not None and not 0 <= value <= 1]:
                yield Difference(f"{name}.{key}", quoted(wrong[0]), "in [0, 1]")


def _of_clients(record: Record) -> Iterator[Difference]:
    clients, scores = record.clients, record.scores
    if not record.experiment.evaluation.new_clients:
        yield from _other("scores.new_downloaded", scores.new_downloaded, None)
        yield from _other("scores.new_personalised", scores.new_personalised, None)
    if clients is None:
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
    if record.shared and record.shared.round[-1] > record.rounds.round[-1]:
        yield Difference("shared.round", str(record.shared.round[-1]), f"{record.rounds.round[-1]} rounds")
    curve = record.shared.score if record.shared else ()
    yield from _other("scores.shared", record.scores.shared, curve[-1] if curve else None)
    best = record.judged.score.best(curve) if curve else None
    yield from _other("scores.shared_best", record.scores.shared_best, best)


def _other(field: str, recorded: float | None, found: float | None) -> Iterable[Difference]:
    return [] if recorded == found else [Difference(field, quoted(recorded), quoted(found))]


def _unequal(field: str, recorded: float | None, found: float | None) -> Iterable[Difference]:
    is_near = recorded is not None and found is not None and math.isclose(recorded, found, rel_tol=_PRECISION)
    return [] if is_near else _other(field, recorded, found)


def _mean(values: Sequence[float]) -> float:
    return spread(values).mean
