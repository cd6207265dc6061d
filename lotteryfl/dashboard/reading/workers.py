"""Workers: what each is at, by its coordinator's word or by the directory alone."""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from lotteryfl.common.security.identity import name_of
from lotteryfl.common.text import printable
from lotteryfl.dashboard.reading.times import seconds_of
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.record import RunRecord
from lotteryfl.server.store.summaries import next_round

_SILENT = 0.5
"""Share of a lease after which a worker that was not heard of is late: heartbeats come every third of one."""

_SLOW, _LEAST_SLOW = 3.0, 10.0
"""So many times as long as the others takes who is late with a result, and not less than so many seconds."""


class Served(NamedTuple):
    """What run.db tells of the workers of the last two rounds."""

    pace: float | None
    """Median of the seconds that a result took; None: there is none."""
    down: Mapping[str, float]
    """By worker's name, bytes a second that it was sent."""
    up: Mapping[str, float]
    results: Mapping[str, int]
    """Of the open round."""
    workers: Sequence[dict[str, Any]]
    """Workers as the page has them, where nobody says more."""


def read_served(run: RunRecord) -> Served:
    """Return what run.db tells of the workers of the last two rounds."""
    number = next_round(run.database, run.experiment.rounds)
    rows = [
        (round_, client, printable(name_of(worker)), state, attempt, down, up, seconds_of(leased), seconds_of(done))
        for round_, client, worker, state, attempt, down, up, leased, done in run.database.select(
            "SELECT round, client, worker, state, attempt, bytes_down, bytes_up, leased_at, done_at FROM assignments "
            "WHERE round > 0 AND round >= ? AND worker != ''",
            number - 1,
        )
    ]
    paces = [done - leased for *_, leased, done in rows if leased is not None and done is not None and done >= leased]
    down, up = Counter[str](), Counter[str]()
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for _, _, name, _, _, sent, received, leased, done in rows:
        down[name] += sent
        up[name] += received
        if leased is not None:
            first[name] = min(leased, first.get(name, math.inf))
        if done is not None:
            last[name] = max(done, last.get(name, 0.0))
    spans = {name: last[name] - begin for name, begin in first.items() if last.get(name, 0.0) > begin}
    results = Counter(name for round_, _, name, state, *_ in rows if round_ == number and state == "done")
    held = [row for row in rows if row[0] == number and row[3] == "leased"] if run.state == "running" else []
    return Served(
        median(paces) if paces else None,
        {name: down[name] / span for name, span in spans.items()},
        {name: up[name] / span for name, span in spans.items()},
        results,
        [_by_directory(name, held, last.get(name)) for name in sorted({row[2] for row in rows})],
    )


def _by_directory(name: str, held: Sequence[tuple[Any, ...]], heard: float | None) -> dict[str, Any]:
    holdings = [
        {"client": client, "attempt": attempt, "leased_at": leased}
        for _, client, holder, _, attempt, _, _, leased, _ in held
        if holder == name
    ]
    times = [each["leased_at"] for each in holdings if each["leased_at"] is not None]
    return {"name": name, "holdings": holdings, "heard_at": max([*times, *([heard] if heard else [])], default=None)}


def fleet_of_directory(served: Served, results: Mapping[str, int], number: int | None) -> dict[str, Any]:
    """Return the workers as the page has them, by the directory alone."""
    now = time.time()
    unknown = dict.fromkeys(("device", "kind", "torch", "aside"), "")
    workers = []
    for each in served.workers:
        holdings = [
            {
                **dict.fromkeys(("epoch", "step", "loss", "lease", "arrived", "returning")),
                "client": holding["client"],
                "attempt": holding["attempt"],
                "held": None if holding["leased_at"] is None else now - holding["leased_at"],
            }
            for holding in each["holdings"]
        ]
        workers.append(
            {
                **unknown,
                "name": each["name"],
                "state": "working" if holdings else "idle" if number is not None else "gone",
                "why": "",
                "device_memory": None,
                "holds": None,
                "heard_at": each["heard_at"],
                "silent": None if each["heard_at"] is None else now - each["heard_at"],
                "load": None,
                **_figures(each["name"], served, results),
                "holdings": holdings,
            }
        )
    return {"source": "directory", "at": now, "round": number, "alive": None, "workers": workers, "others": 0}


def fleet_of(
    fleet: pb.Fleet, served: Served, results: Mapping[str, int], *, lease: float, hides_loss: bool
) -> dict[str, Any]:
    """Return the workers as the page has them, by their coordinator's word.

    Args:
        fleet: its word.
        served: what run.db tells beside it.
        results: by worker's name, how many of committed rounds count.
        lease: seconds of a lease.
        hides_loss: losses on training data are withheld.
    """
    workers = [_worker(each, fleet.time, served, results, lease, hides_loss) for each in fleet.workers]
    alive = sum(each["state"] not in ("lost", "gone") for each in workers)
    return {"source": "live", "at": fleet.time, "round": fleet.round, "alive": alive, "workers": workers} | {
        "others": fleet.others
    }


def _worker(
    status: pb.WorkerStatus, at: float, served: Served, results: Mapping[str, int], lease: float, hides_loss: bool
) -> dict[str, Any]:
    machine, name = status.machine, printable(status.machine.worker)
    state, why = _standing(status, served.pace, lease)
    return {
        "name": name,
        "state": state,
        "why": why,
        "device": printable(machine.device),
        "kind": printable(machine.device.partition(":")[0]),
        "device_memory": machine.device_memory or None,
        "torch": printable(machine.torch_version),
        "holds": "all" if status.holds_all else status.clients,
        "heard_at": at - status.silent,
        "silent": status.silent,
        "aside": printable(status.aside),
        "load": _load(status),
        **_figures(name, served, results),
        "holdings": [_holding(each, hides_loss=hides_loss) for each in status.holdings],
    }


def _standing(status: pb.WorkerStatus, pace: float | None, lease: float) -> tuple[str, str]:
    """Return how a worker stands, and why that is so where it is not well."""
    if status.aside:
        return "aside", printable(status.aside)
    if status.is_lost:
        return "lost", f"not heard of for {status.silent:.0f} s: what it has goes to others"
    if status.silent > _SILENT * lease:
        return "late", f"not heard of for {status.silent:.0f} s, expected every {lease / 3:.0f} s"
    begun = [each for each in status.holdings if each.arrived][:1]  # the others wait for it
    if begun and pace is not None and begun[0].held > max(_SLOW * pace, _LEAST_SLOW):
        return "late", f"client {begun[0].client} has taken {begun[0].held:.0f} s, others took {pace:.1f} s"
    return ("working" if status.holdings else "idle"), ""


def _load(status: pb.WorkerStatus) -> dict[str, Any] | None:
    if not status.HasField("load"):
        return None
    load = status.load
    return {
        "memory": load.memory,
        "device_memory": load.device_memory or None,
        "steps_per_second": load.steps_per_second,
    }


def _holding(holding: pb.Holding, *, hides_loss: bool) -> dict[str, Any]:
    has_begun = holding.epoch or holding.step
    return {
        "client": holding.client,
        "attempt": holding.attempt,
        "epoch": holding.epoch,
        "step": holding.step,
        "loss": holding.loss if has_begun and not hides_loss else None,
        "held": holding.held,
        "lease": holding.lease,
        "arrived": holding.arrived,
        "returning": holding.returning,
    }


def _figures(name: str, served: Served, results: Mapping[str, int]) -> dict[str, Any]:
    return {
        "down_per_second": served.down.get(name),
        "up_per_second": served.up.get(name),
        "results": results.get(name, 0) + served.results.get(name, 0),
    }
