"""A run directory as long runs leave it, written without training: numbers of every client in every round."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lotteryfl.common.experiment.experiment import validate
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.setup import create_run

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_WORKERS = 8
_SECONDS = 30


def write_long_run(path: Path, clients: int, rounds: int) -> None:
    """Write a run of so many clients and rounds, all of which are committed but the last, which measures."""
    table = {"rounds": rounds, "clients": clients, "clients_per_round": clients, "task": {"name": "digits"}}
    plan = pb.Plan(train=pb.Plan.Train(epochs=1)).SerializeToString()
    with create_run(path, validate(table, "long run"), ()) as run, run.database.transaction():
        select = run.database.select
        for number in range(1, rounds + 1):
            opened = _BEGIN + timedelta(seconds=_SECONDS * number)
            select(
                "INSERT INTO rounds (round, state, opened_at, committed_at, seconds) VALUES (?, 'committed', ?, ?, ?)",
                *(number, _text(opened), _text(opened + timedelta(seconds=_SECONDS)), float(_SECONDS)),
            )
            for client in range(clients):
                _write(select, plan, opened, number, client)


def _write(select: Callable[..., object], plan: bytes, opened: datetime, number: int, client: int) -> None:
    learned = 1 - math.exp(-number / 60)
    density = max(0.1, 0.9 ** (number / 10))
    begin = opened + timedelta(seconds=_SECONDS * (client // _WORKERS) / 100)
    select(
        "INSERT INTO assignments (round, client, plan, mask, density, own, source, state, attempt, worker, bytes_down, "
        "bytes_up, leased_at, done_at) VALUES (?, ?, ?, '', ?, '', '', 'done', 1, ?, ?, ?, ?, ?)",
        *(number, client, plan, density, f"worker-{client % _WORKERS}:{'0' * 32}", 100_000, 90_000),
        *(_text(begin), _text(begin + timedelta(seconds=0.3))),
    )
    select(
        "INSERT INTO results VALUES (?, ?, 40, '', '', ?, ?, 0.2, 1.0)",
        number,
        client,
        density,
        2 * math.exp(-number / 50),
    )
    for phase, score in (("downloaded", 0.8 * learned), ("personalised", 0.95 * learned)):
        shown = min(1.0, max(0.0, score + 0.1 * math.sin(client + number / 7)))
        select(
            "INSERT INTO metrics VALUES (?, ?, ?, 20, ?, ?, ?, ?, ?, ?, ?)",
            *(number, client, phase, 2 - 2 * shown, *(shown,) * 6),
        )


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
