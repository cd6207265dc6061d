"""Where a run stands, as the page has it."""

from dataclasses import dataclass
from typing import Any

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.text import printable
from lotteryfl.common.training.score import Score
from lotteryfl.dashboard.reading.rounds import Rounds
from lotteryfl.dashboard.reading.times import seconds_of
from lotteryfl.describe import state_of
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.record import RunRecord
from lotteryfl.server.store.rundb.steered import paused
from lotteryfl.server.store.summaries import next_round


@dataclass(frozen=True)
class Facts:
    """What run.db tells beside a status."""

    open_round: int | None
    """None: none is, nor comes."""
    opened: float | None
    """When, in seconds since 1970."""
    ended: float | None
    paused: str
    """Why no work is given out; '': it is."""
    values: tuple[str, ...]
    """What is measured of a model, the score first."""


def read_facts(run: RunRecord, rounds: Rounds) -> Facts:
    """Read them."""
    database, state = run.database, run.state
    number = next_round(database, run.experiment.rounds) if state == "running" else None
    opened = None
    if number is not None:
        found = database.select("SELECT opened_at FROM rounds WHERE round = ? AND state = 'open'", number).fetchone()
        opened = seconds_of(found[0]) if found else None
    (last,) = database.select("SELECT max(committed_at) FROM rounds WHERE round > 0").fetchone()
    names = (run.score.name, *rounds.values, "loss")
    ended = None if state == "running" else seconds_of(last)
    why = printable(paused(database)) if state == "running" else ""
    return Facts(number, opened, ended, why, tuple(dict.fromkeys(names)))


def status_of(
    experiment: Experiment,
    score: Score,
    rounds: Rounds,
    facts: Facts,
    status: pb.RunStatus,
    *,
    is_driven: bool = True,
) -> dict[str, Any]:
    """Return a status as the page has it, but for who says so.

    Args:
        experiment: the run's.
        score: what it is judged by.
        rounds: what is committed.
        facts: what run.db tells beside.
        status: its coordinator's, or that of its directory.
        is_driven: whether a process has it.
    """
    state = state_of(status, is_driven=is_driven)
    return {
        "state": state,
        "reason": printable(status.reason),
        "paused": facts.paused,
        "strategy": printable(status.strategy),
        "task": printable(_task(experiment)),
        "model": printable(experiment.task.model if isinstance(experiment.task.model, str) else ""),
        "seed": experiment.seed,
        "round": status.round,
        "open_round": facts.open_round,
        "rounds": status.rounds,
        "clients": status.clients,
        "assignments": status.assignments,
        "results": status.results,
        "score": {
            "name": score.name,
            "higher_is_better": score.higher_is_better,
            "own": score.own,
            "values": facts.values,
        },
        "started_at": rounds.began if rounds.began is not None else facts.opened,
        "round_opened_at": facts.opened,
        "ended_at": facts.ended,
        "time_left": status.seconds_left if state == "running" and status.HasField("seconds_left") else None,
        "bytes_down": status.bytes_down,
        "bytes_up": status.bytes_up,
        "workers": status.workers,
        "devices": dict(status.devices),
        "in_flight": [printable(line) for line in status.in_flight],
        "waits": [printable(line) for line in status.waits],
        "heard": [printable(line) for line in status.heard],
        "goes_on": printable(status.goes_on),
        "advice": printable(status.advice),
        "refusals": [
            {
                "worker": printable(each.worker),
                "results": each.results,
                "reason": printable(each.reason),
                "aside": each.aside,
            }
            for each in status.refusals
        ],
        "left_out": [
            {"client": each.client, "rounds": each.rounds, "last": each.last, "reason": printable(each.reason)}
            for each in status.left_out
        ],
        "shared": _shared(status),
        "privacy": _privacy(experiment, status),
    }


def _task(experiment: Experiment) -> str:
    return experiment.task.name.rpartition("/")[2]


def _shared(status: pb.RunStatus) -> dict[str, Any] | None:
    if not status.HasField("shared"):
        return None
    shared = status.shared
    return {"after": shared.after, "examples": shared.examples, "values": dict(shared.values)}


def _privacy(experiment: Experiment, status: pb.RunStatus) -> dict[str, Any] | None:
    privacy = experiment.privacy
    if not (privacy.is_promised or privacy.clip_norm):
        return None
    last = status.last
    return {
        "promised": privacy.is_promised,
        "withholds_loss": privacy.hides_loss,
        "withholds_clients": privacy.is_promised,
        "of": ("examples" if privacy.dp_sgd else "clients") if privacy.is_promised else None,
        "epsilon": last.epsilon if last.HasField("epsilon") else None,
        "delta": last.delta if last.HasField("delta") else None,
    }
