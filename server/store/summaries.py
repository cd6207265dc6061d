"""What a run's committed rounds came to, for the tables that people read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import nsmallest
from operator import attrgetter
from typing import NamedTuple

from lotteryfl.common.training.score import Score
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.named import MOST_TOLD
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundb.measures import score_column

NO_LAST = 2**31
"""Greater than the number of any round."""


@dataclass(frozen=True)
class ClientSummary:
    """One client in one committed round, for the tables people read."""

    client: int
    score_downloaded: float
    score_personalised: float
    density: float
    bytes_down: int
    bytes_up: int
    score_global: float | None = None
    """On the task's global test data; None where it was not measured."""


class RoundScores(NamedTuple):
    """Means over the clients of one committed round."""

    downloaded: float
    personalised: float


class Measure(NamedTuple):
    """What one metric of a task's objective, or its loss, was on average over the clients of a committed round."""

    round: int
    phase: str
    """One of downloaded, personalised, global."""
    name: str
    value: float


def scores_of(summary: pb.RoundSummary, score: Score) -> RoundScores:
    """Return by what a round is judged."""
    if not score.own:
        return RoundScores(summary.accuracy_downloaded, summary.accuracy_personalised)
    return RoundScores(summary.downloaded[score.name], summary.personalised[score.name])


def measures(database: Database, first: int = 1, last: int = NO_LAST) -> Iterator[Measure]:
    """Yield all that is known of the committed rounds from `first` to `last` by name, of a task's own objective.

    A metric that not every client of a round has sent is left out.
    """
    if not database.score.own:
        return
    rows = database.select(
        """
        WITH named AS (
            SELECT round, client, phase, name, value FROM measures
            UNION ALL SELECT round, client, phase, 'loss', loss FROM metrics
        )
        SELECT round, phase, name, avg(value) FROM named JOIN rounds USING (round)
        WHERE rounds.state = 'committed' AND round BETWEEN :first AND :last AND phase NOT IN ('validation', 'shared')
        AND client < :participants
        GROUP BY round, phase, name HAVING count(*) = (
            SELECT count(*) FROM results r WHERE r.round = named.round AND r.client < :participants
        ) ORDER BY round, phase, name
        """,
        first=first,
        last=last,
        participants=database.participants,
    )
    yield from map(Measure._make, rows)


def measured(database: Database, round_: int) -> dict[str, dict[str, float]]:
    """Return by phase and name what the means over clients were in a round, the last that is committed."""
    found: dict[str, dict[str, float]] = {"downloaded": {}, "personalised": {}}
    for measure in measures(database, round_):
        found.setdefault(measure.phase, {})[measure.name] = measure.value
    return found


def next_round(database: Database, rounds: int) -> int:
    """Return the round that is open or comes next; after the last of them, one more.

    Args:
        database: of the run.
        rounds: how many train, if none is spared.
    """
    last = database.last_round()
    return rounds + 1 if last and last == database.ended_early() else last + 1


def rounds_left(state: str, number: int, rounds: int) -> int:
    """Return how many rounds are not committed, the last measuring of every client among them.

    Args:
        state: running, finished or failed.
        number: what `next_round` has returned.
        rounds: how many train, if none is spared.
    """
    return 0 if state == "finished" else rounds + 2 - number


def round_summaries(database: Database, first: int = 1, last: int = NO_LAST) -> list[pb.RoundSummary]:
    """Return the means over clients of every committed round from `first` to `last`, in order, with its stragglers.

    New clients, which took part in none, are in no mean; bytes, refusals and stragglers are of all.
    """
    rows = database.select(
        """
        SELECT r.round, count(*), avg(d.accuracy), avg(p.accuracy), avg(r.density), avg(r.train_loss), o.seconds,
            (SELECT count(DISTINCT worker) FROM assignments a WHERE a.round = r.round AND a.broadcast),
            (SELECT count(*) FROM refusals f WHERE f.round = r.round), o.epsilon, o.delta,
            (SELECT sum(bytes_down) FROM assignments a WHERE a.round = r.round),
            (SELECT sum(bytes_up) FROM assignments a WHERE a.round = r.round)
        FROM rounds o JOIN results r USING (round)
        JOIN metrics d ON (d.round, d.client, d.phase) = (r.round, r.client, 'downloaded')
        JOIN metrics p ON (p.round, p.client, p.phase) = (r.round, r.client, 'personalised')
        WHERE o.state = 'committed' AND r.round BETWEEN ? AND ? AND r.client < ? GROUP BY r.round ORDER BY r.round
        """,
        first,
        last,
        database.participants,
    )
    names = [field.name for field in pb.RoundSummary.DESCRIPTOR.fields if not field.is_repeated]
    summaries = {row[0]: pb.RoundSummary(**dict(zip(names, row, strict=True))) for row in rows}
    late = database.select(
        "SELECT round, client FROM assignments a JOIN rounds o USING (round) "
        "WHERE o.state = 'committed' AND a.state != 'done' AND round BETWEEN ? AND ? ORDER BY round, client",
        first,
        last,
    )
    for round_, client in late:
        if round_ in summaries:
            summaries[round_].stragglers.append(client)
    for measure in measures(database, first, last):
        if measure.phase != "global":
            means = summaries[measure.round]
            (means.downloaded if measure.phase == "downloaded" else means.personalised)[measure.name] = measure.value
    return list(summaries.values())


_LEFT_OUT = (
    "SELECT client, count(*) AS missed, max(round), a.reason FROM assignments a JOIN rounds o USING (round) "
    "WHERE o.state = 'committed' AND a.state != 'done' AND round >= ? GROUP BY client "
)  # beside max(), SQLite takes the other columns from the row that has it


def left_out(database: Database, first: int = 1) -> list[pb.LeftOut]:
    """Return every client that sat committed rounds from `first` on out, in order, and why it sat out the last."""
    return _read_left_out(database.select(f"{_LEFT_OUT} ORDER BY client", first))


def most_left_out(database: Database) -> list[pb.LeftOut]:
    """Return what `told_of` chooses of `left_out`, without reading the others."""
    rows = database.select(f"{_LEFT_OUT} ORDER BY missed DESC, client LIMIT ?", 1, MOST_TOLD)
    return sorted(_read_left_out(rows), key=attrgetter("client"))


def told_of(left_out: Iterable[pb.LeftOut]) -> list[pb.LeftOut]:
    """Return those who sat most rounds out, in the order of their numbers: a message has an end."""
    most = nsmallest(MOST_TOLD, left_out, key=lambda missing: (-missing.rounds, missing.client))
    return sorted(most, key=attrgetter("client"))


def _read_left_out(rows: Iterable[tuple[int, int, int, str]]) -> list[pb.LeftOut]:
    return [pb.LeftOut(client=client, rounds=rounds, last=last, reason=why) for client, rounds, last, why in rows]


def client_summaries(database: Database, round_: int) -> list[ClientSummary]:
    """Return every client of a round with its scores and density, and its traffic in the whole run; no new one."""
    return [client for client in _all_clients(database, round_) if client.client < database.participants]


def new_clients(database: Database, round_: int) -> list[ClientSummary]:
    """Return the same of those that take part in no round that trains, where it is the last."""
    return [client for client in _all_clients(database, round_) if client.client >= database.participants]


def _all_clients(database: Database, round_: int) -> list[ClientSummary]:
    downloaded, personalised, globally = (score_column(database.score, metrics) for metrics in ("d", "p", "g"))
    rows = database.select(
        f"""
        SELECT r.client, {downloaded}, {personalised}, r.density, sum(a.bytes_down), sum(a.bytes_up), {globally}
        FROM results r JOIN assignments a ON a.client = r.client
        JOIN metrics d ON (d.round, d.client, d.phase) = (r.round, r.client, 'downloaded')
        JOIN metrics p ON (p.round, p.client, p.phase) = (r.round, r.client, 'personalised')
        LEFT JOIN metrics g ON (g.round, g.client, g.phase) = (r.round, r.client, 'global')
        WHERE r.round = :round GROUP BY r.client ORDER BY r.client
        """,  # noqa: S608 - of the program's own words
        round=round_,
        score=database.score.name,
    )
    return [ClientSummary(*row) for row in rows]
