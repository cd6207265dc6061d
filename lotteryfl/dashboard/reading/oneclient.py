"""One client: what it came to, round by round, its mask layer by layer, and who has served it."""

import json
import math
from collections import Counter
from typing import Any

from lotteryfl.common.security.identity import name_of
from lotteryfl.common.text import printable
from lotteryfl.dashboard.reading.clients import Row
from lotteryfl.dashboard.reading.masks import kept_by_layer
from lotteryfl.server.store.record import RunRecord
from lotteryfl.server.store.rundb.measures import score_column

_HISTORY = (
    *("round", "downloaded", "personalised", "loss_downloaded", "loss_personalised", "train_loss", "density"),
    *("examples", "seconds", "bytes_down", "bytes_up", "worker", "attempt", "state", "reason"),
)
_WITHHELD = ("downloaded", "personalised", "loss_downloaded", "loss_personalised", "train_loss", "density", "examples")
"""Where privacy is promised."""


def read_client(run: RunRecord, row: Row) -> dict[str, Any]:
    """Return what is known of a client.

    Args:
        run: its run.
        row: the client's own of the table.
    """
    history = _history(run, row["client"])
    served = Counter(
        worker for worker, state in zip(history["worker"], history["state"], strict=True) if worker and state == "done"
    )
    last = dict(zip(history["worker"], history["round"], strict=True))
    return {
        "client": row["client"],
        "row": row,
        "history": history,
        "layers": [] if run.experiment.privacy.is_promised else _layers(run, row["client"]),
        "served_by": [
            {"worker": worker, "results": results, "last": last[worker]} for worker, results in served.most_common()
        ],
    }


def _history(run: RunRecord, client: int) -> dict[str, list[Any]]:
    score = run.score
    rows = run.database.select(
        f"""
        SELECT a.round, {score_column(score, "d")}, {score_column(score, "p")}, d.loss, p.loss, r.train_loss, r.density,
            r.examples, r.seconds, a.bytes_down, a.bytes_up, a.worker, a.attempt, a.state, a.reason
        FROM assignments a LEFT JOIN results r USING (round, client)
        LEFT JOIN metrics d ON (d.round, d.client, d.phase) = (a.round, a.client, 'downloaded')
        LEFT JOIN metrics p ON (p.round, p.client, p.phase) = (a.round, a.client, 'personalised')
        WHERE a.client = :client AND a.round > 0 ORDER BY a.round
        """,  # noqa: S608 - of the program's own words
        client=client,
        score=score.name,
    ).fetchall()
    columns = {name: [row[place] for row in rows] for place, name in enumerate(_HISTORY)}
    columns["worker"] = [name_of(worker) for worker in columns["worker"]]
    columns["reason"] = [printable(reason) for reason in columns["reason"]]
    privacy = run.experiment.privacy
    if privacy.hides_loss:
        columns["train_loss"] = [None] * len(rows)
    if privacy.is_promised:
        columns |= {name: [None] * len(rows) for name in _WITHHELD}
    return columns


def _layers(run: RunRecord, client: int) -> list[dict[str, Any]]:
    mask = run.database.client(client).mask
    kept = kept_by_layer(run.path, mask) if mask else {}
    found = []
    for spec in json.loads(run.database.get("table")):
        if not spec["prunable"]:
            continue
        size = math.prod(spec["shape"])
        of_it = kept.get(spec["name"], size)
        found.append({"name": printable(spec["name"]), "size": size, "kept": of_it, "density": of_it / max(1, size)})
    return found
