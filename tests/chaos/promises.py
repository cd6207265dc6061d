"""What a run under faults is held to, whatever happened to it: DESIGN's promises, read from outside."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from lotteryfl.server.results.verify import verify
from tests.chaos.cluster import Ack

_RESULTS = "SELECT round, client, examples, mask, density, train_loss FROM results ORDER BY round, client"
_METRICS = "SELECT * FROM metrics ORDER BY round, client, phase"


def check_promises(run: Path, undisturbed: Path, acks: Iterable[Ack]) -> None:
    """Check a finished run against the same experiment without any fault, and against what its workers were told."""
    check_bits(run, undisturbed)
    check_acknowledged(run, acks)
    check_counted_once(run)
    check_masks_shrink(run)
    report = verify(run)
    assert not report.problems, "\n".join(report.lines())


def check_bits(run: Path, undisturbed: Path) -> None:
    """The same models, masks, tickets and measurements, in every round: nothing was lost, stale or counted twice."""
    found, expected = (json.loads((path / "summary.json").read_text()) for path in (run, undisturbed))
    for key in ("model_sha256", "tickets_sha256", "accuracy", "density"):
        assert found[key] == expected[key], f"{key}: {found[key]}, undisturbed {expected[key]}"
    for query in (_RESULTS, _METRICS):
        assert _rows(run, query) == _rows(undisturbed, query)


def check_acknowledged(run: Path, acks: Iterable[Ack]) -> None:
    """What a worker knows to be counted is counted, from that worker; and nobody was given that work afterwards.

    A lease is on disk before it is handed out, and each has a higher attempt: the last is the one that counted.
    """
    done = {
        f"r{round_}-c{client}-a{attempt}": worker.partition(":")[0]
        for round_, client, attempt, worker in _rows(
            run, "SELECT round, client, attempt, worker FROM assignments WHERE state = 'done'"
        )
    }
    for ack in acks:
        assert done.get(ack.assignment) == ack.worker, f"{ack}: acknowledged, and not what the run has counted"


def check_counted_once(run: Path) -> None:
    """Every assignment has one result: the file that came under its last lease."""
    rows = _rows(
        run, "SELECT a.round, a.client, a.attempt, r.file FROM assignments a LEFT JOIN results r USING (round, client)"
    )
    for round_, client, attempt, file in rows:
        assert file, f"round {round_}, client {client}: no result"
        assert file.startswith(f"results/r{round_}-c{client}-a{attempt}."), f"{file}: attempt {attempt} was the last"
    most = max(Counter((round_, client) for round_, client, *_ in rows).values())
    assert most == 1


def check_masks_shrink(run: Path) -> None:
    """A client's density never rises; that its masks are the undisturbed run's, bit for bit, their digests say."""
    densities: dict[int, float] = {}
    for client, density in _rows(run, "SELECT client, density FROM results ORDER BY round"):
        assert density <= densities.get(client, 1.0)
        densities[client] = density
    assert min(densities.values()) < 1, "nothing was pruned"


def repeated(run: Path) -> tuple[int, int]:
    """Return how many assignments were leased again, and how many there were."""
    ((again, total),) = _rows(run, "SELECT sum(attempt - 1), count(*) FROM assignments")
    return again, total


def _rows(run: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{run / 'run.db'}?mode=ro", uri=True)) as database:
        return database.execute(query).fetchall()
