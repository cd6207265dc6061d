"""What clients' results have said, as queries of run.db: each looks at the rows of its answer alone."""

from collections.abc import Iterator, Sequence
from typing import Any

from lotteryfl.common.names import WorkerId
from lotteryfl.common.security.identity import name_of
from lotteryfl.common.training.score import Score
from lotteryfl.common.wire.clientresult import ClientResult, Evaluated, ResultMetrics
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundb.measures import score_column

_LAST = (
    "r.client = :client AND r.round = "
    "(SELECT round FROM results WHERE client = :client AND round > 0 ORDER BY round DESC LIMIT 1)"
)
_OF_ROUND = "r.round = :round ORDER BY r.client"
_PHASES = {"d": "downloaded", "p": "personalised", "v": "validation"}


def last_result(database: Database, client: int, *, hides_loss: bool) -> ClientResult | None:
    """Return the last result of a client; None: it has none.

    Args:
        database: of the run.
        client: whose.
        hides_loss: the loss on training examples is kept back.
    """
    return next(_results(database, _LAST, hides_loss=hides_loss, client=client), None)


def results_of_round(database: Database, round_: int, *, hides_loss: bool) -> list[ClientResult]:
    """Return the results of a round, in client order."""
    return list(_results(database, _OF_ROUND, hides_loss=hides_loss, round=round_))


def rounds_of(database: Database, client: int) -> list[int]:
    """Return the rounds of which there is a result of a client, in order."""
    query = "SELECT round FROM results WHERE client = ? AND round > 0 ORDER BY round"
    return [round_ for (round_,) in database.select(query, client)]


def last_worker(database: Database, client: int) -> str:
    """Return the name of the worker that the last result of a client is from; '': it has none."""
    query = f"SELECT a.worker FROM results r JOIN assignments a USING (round, client) WHERE {_LAST}"  # noqa: S608
    found = database.select(query, client=client).fetchone()
    return name_of(WorkerId(found[0])) if found else ""


def _results(database: Database, which: str, *, hides_loss: bool, **named: int) -> Iterator[ClientResult]:
    score = database.score
    columns = (f"{m}.examples, {score_column(score, m)}, {m}.loss, {m}.accuracy" for m in _PHASES)
    joins = (
        f"LEFT JOIN metrics {m} ON ({m}.round, {m}.client, {m}.phase) = (r.round, r.client, '{phase}')"
        for m, phase in _PHASES.items()
    )
    query = (
        f"SELECT r.round, r.client, r.examples, r.density, r.train_loss, {', '.join(columns)} "  # noqa: S608
        f"FROM results r {' '.join(joins)} WHERE {which}"
    )
    for round_, client, examples, density, train_loss, *found in database.select(query, **named, score=score.name):
        downloaded, personalised, validation = (_evaluated(found[start : start + 4], score) for start in (0, 4, 8))
        metrics = ResultMetrics(
            downloaded, personalised, None if found[8] is None else validation, None if hides_loss else train_loss
        )
        yield ClientResult(round_, client, examples, density, metrics)


def _evaluated(columns: Sequence[Any], score: Score) -> Evaluated:
    examples, value, loss, accuracy = columns
    return Evaluated(examples, value, loss, None if score.own else accuracy)
