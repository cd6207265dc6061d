"""The committed rounds as columns. A round is read once: what is committed stays as it is."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.security.identity import name_of
from lotteryfl.common.training.score import Score
from lotteryfl.dashboard.reading.times import seconds_of
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.spread import spread
from lotteryfl.server.store.globalcurve import global_curve
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundb.measures import score_column
from lotteryfl.server.store.summaries import round_summaries, scores_of
from lotteryfl.server.store.traffic import shared_bytes

Columns = dict[str, list[Any]]
"""By name, a value for each round."""

_COUNTED = ("seconds", "clients", "refused", "broadcasts")
"""What a round's summary says, by the same name."""

_COLUMNS = (
    *("round", "time", "sent", "bytes_down", "bytes_up", "downloaded", "personalised", "worst_downloaded"),
    *("worst_personalised", "best_downloaded", "best_personalised", "loss_downloaded", "loss_personalised"),
    *("train_loss", "density", "seconds", "clients", "refused", "stragglers", "broadcasts", "epsilon"),
)
_TENTHS = ("worst_downloaded", "worst_personalised", "best_downloaded", "best_personalised")


@dataclass(frozen=True)
class Rounds:
    """What is known of the committed rounds; nothing in it is changed any more."""

    columns: Columns = field(default_factory=lambda: {name: [] for name in _COLUMNS})
    values: Mapping[str, Columns] = field(default_factory=dict)
    """By name of what a task's own objective measures beside the score: downloaded and personalised."""
    shared: Columns = field(default_factory=lambda: {"round": [], "score": []})
    """The shared model on global test data."""
    results: Mapping[str, int] = field(default_factory=dict)
    """By worker's name, how many results of it count."""
    began: float | None = None
    """When the first round was opened, in seconds since 1970."""

    @property
    def numbers(self) -> list[int]:
        """Theirs, in order."""
        return self.columns["round"]

    @property
    def last(self) -> int:
        """The number of the last one; 0: none."""
        return self.numbers[-1] if self.numbers else 0

    @property
    def sent(self) -> int:
        """Bytes down and up until the end of the last one."""
        return self.columns["sent"][-1] if self.numbers else 0

    def of(self, places: Iterable[int], *, thinned: bool) -> dict[str, Any]:
        """Return the series of the rounds at some places, in order.

        Args:
            places: from 0.
            thinned: there are more between them.
        """
        chosen = list(places)
        return {
            "total": len(self.numbers),
            "thinned": thinned,
            **_at(self.columns, chosen),
            "values": {name: _at(columns, chosen) for name, columns in self.values.items()},
            "shared": self.shared,
        }

    def after(self, round_: int) -> dict[str, Any]:
        """Return the series of the rounds after one."""
        numbers = self.numbers
        first = next((place for place in range(len(numbers) - 1, -1, -1) if numbers[place] <= round_), -1) + 1
        return self.of(range(first, len(numbers)), thinned=False)


def read_rounds(database: Database, experiment: Experiment, known: Rounds) -> Rounds:
    """Return the committed rounds.

    Args:
        database: of the run, within one snapshot.
        experiment: the run's.
        known: what was read of them before; nothing of it is read again, unless rounds have gone since.
    """
    (committed,) = database.select(
        "SELECT count(*) FROM rounds WHERE state = 'committed' AND round BETWEEN 1 AND ?", known.last
    ).fetchone()
    if committed < len(known.numbers):  # the run was made longer: its last round was set aside
        known = Rounds()
    new = round_summaries(database, known.last + 1)
    if not new:
        return known
    columns, values = _columns(database, experiment, new, known)
    return Rounds(
        columns={name: [*known.columns.get(name, ()), *column] for name, column in columns.items()},
        values={
            name: {phase: [*known.values.get(name, {}).get(phase, ()), *column] for phase, column in phases.items()}
            for name, phases in values.items()
        },
        shared=_curve(database),
        results=Counter(known.results) + _results(database, known.last),
        began=known.began if known.numbers else _began(database),
    )


def _columns(
    database: Database, experiment: Experiment, new: Sequence[pb.RoundSummary], known: Rounds
) -> tuple[Columns, dict[str, Columns]]:
    score, began = database.score, known.began if known.numbers else _began(database)
    columns: Columns = {"round": [each.round for each in new]}
    ended = dict(database.select("SELECT round, committed_at FROM rounds WHERE round > ?", known.last).fetchall())
    ends = [seconds_of(ended[each.round]) for each in new]
    columns["time"] = [None if end is None or began is None else end - began for end in ends]
    sent = known.sent or shared_bytes(database)
    columns["sent"] = []
    for each in new:
        sent += each.bytes_down + each.bytes_up
        columns["sent"].append(sent)
    columns["bytes_down"] = [each.bytes_down for each in new]
    columns["bytes_up"] = [each.bytes_up for each in new]
    scores = [scores_of(each, score) for each in new]
    columns["downloaded"] = [each.downloaded for each in scores]
    columns["personalised"] = [each.personalised for each in scores]
    columns |= _tenths(database, score, known.last, columns["round"])
    if experiment.privacy.is_promised:  # a tenth of few clients is a single one
        columns |= {name: [None] * len(new) for name in _TENTHS}
    hides_loss = experiment.privacy.hides_loss
    columns["train_loss"] = [None if hides_loss else each.train_loss for each in new]
    columns["density"] = [each.density for each in new]
    columns |= {name: [getattr(each, name) for each in new] for name in _COUNTED}
    columns["stragglers"] = [len(each.stragglers) for each in new]
    columns["epsilon"] = [each.epsilon if each.HasField("epsilon") else None for each in new]
    names = set[str]().union(*(each.downloaded for each in new), known.values)
    values = {
        name: {
            "downloaded": [each.downloaded.get(name) for each in new],
            "personalised": [each.personalised.get(name) for each in new],
        }
        for name in score.first_of(names)
        if name not in (score.name, "loss")
    }
    return {name: columns[name] for name in _COLUMNS}, values


def _tenths(database: Database, score: Score, after: int, numbers: Sequence[int]) -> Columns:
    """Return of each round the mean loss, and the mean score over the worst and the best tenth of the clients."""
    scores: dict[tuple[int, str], list[float]] = defaultdict(list)
    losses: dict[tuple[int, str], list[float]] = defaultdict(list)
    rows = database.select(
        f"SELECT m.round, m.phase, {score_column(score, 'm')}, m.loss FROM metrics m JOIN rounds o USING (round) "  # noqa: S608
        "WHERE o.state = 'committed' AND m.round > :after AND m.client < :participants "
        "AND m.phase IN ('downloaded', 'personalised')",
        after=after,
        participants=database.participants,
        score=score.name,
    )
    for round_, phase, value, loss in rows:
        losses[round_, phase].append(loss)
        if value is not None:
            scores[round_, phase].append(value)
    columns: Columns = {}
    for phase in ("downloaded", "personalised"):
        for name, higher in (("worst", score.higher_is_better), ("best", not score.higher_is_better)):
            columns[f"{name}_{phase}"] = [_tenth(scores[each, phase], higher=higher) for each in numbers]
        columns[f"loss_{phase}"] = [sum(each) / len(each) for each in (losses[number, phase] for number in numbers)]
    return columns


def _tenth(scores: Sequence[float], *, higher: bool) -> float | None:
    return spread(scores, higher_is_better=higher).worst_decile if scores else None


def _curve(database: Database) -> Columns:
    points = global_curve(database)
    name = database.score.name
    return {"round": [point.round for point in points], "score": [point.values.get(name) for point in points]}


def _results(database: Database, after: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for worker, count in database.select(
        "SELECT worker, count(*) FROM assignments JOIN rounds o USING (round) WHERE round > ? "
        "AND o.state = 'committed' AND assignments.state = 'done' GROUP BY worker",
        after,
    ):
        found[name_of(worker)] += count
    return found


def _began(database: Database) -> float | None:
    first = database.select("SELECT opened_at FROM rounds WHERE round > 0 ORDER BY round LIMIT 1").fetchone()
    return seconds_of(first[0]) if first else None


def _at(columns: Mapping[str, Sequence[Any]], places: Sequence[int]) -> Columns:
    return {name: [column[place] for place in places] for name, column in columns.items()}
