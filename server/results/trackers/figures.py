"""What trackers are told of a run: its settings, the same few series round by round, and what it came to in the end."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.flattened import flattened
from lotteryfl.common.owncode.taskid import task_id
from lotteryfl.common.security.secretnames import without_values_of_secrets
from lotteryfl.common.tasks.placeless import without_places
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.globalcurve import global_curve
from lotteryfl.server.store.record import RunRecord, damage_named
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.summaries import new_clients, round_summaries, scores_of
from lotteryfl.server.store.traffic import shared_bytes

_NOT_TOLD = ("refused", "left_out", "global_curve")
"""Of the summary: workers' names and words of others, and what the series have."""


@dataclass(frozen=True)
class RunCard:
    """What a tracker is told of a run before its first round."""

    identity: str
    """What tells the run from every other, and from itself before it was made longer after its end."""
    name: str
    """Its folder's."""
    task: str
    settings: Mapping[str, Any]
    """The experiment as `section/key` → value, without who may work for it and where files lie here."""


class Figures(NamedTuple):
    """What became known with the commit of one round."""

    round: int
    at: float
    """When it was committed, in seconds since 1970."""
    steps: Mapping[int, Mapping[str, float]]
    """By step, which is a round, figures by name: of the round itself, and of the shared model after the one before."""


class Final(NamedTuple):
    """What a finished run came to: of its summary what is nobody's name or word."""

    numbers: Mapping[str, float]
    words: Mapping[str, str]


def card_of(run: RunRecord) -> RunCard:
    """Return what a tracker is told first."""
    (earlier,) = run.database.select("SELECT count(*) FROM rounds WHERE round < 0").fetchone()
    identity = f"{run.run_id}-{earlier}" if earlier else run.run_id
    return RunCard(identity, run.path.resolve().name, task_id(run.experiment.task.name), settings(run.experiment))


def settings(experiment: Experiment) -> dict[str, Any]:
    """Return the experiment as `section/key` → value, without who may work for it and where files lie here.

    Options of the user's own that are called as secrets are have no value.
    """
    flat: dict[str, Any] = {}
    for key, value in without_places(experiment).model_dump(exclude={"access"}, exclude_none=True).items():
        if isinstance(value, Mapping):
            flat |= {f"{key}/{inner}": without_values_of_secrets(v) for inner, v in value.items()}
        else:
            flat[key] = value
    return flat


def figures(database: Database, experiment: Experiment, first: int = 1) -> list[Figures]:
    """Return the figures of every committed round from `first` on, in order: means over clients, bytes, seconds.

    Where the shared model is measured on global test data, that comes with the round in which it was, for the step of
    the round before; θ_0 is step 0. The last round has what new clients made of the run's model, too. Bytes of θ_0
    count with round 1, as far as it was sent by now.
    """
    summaries = round_summaries(database, first)
    shared = _shared(database, len(summaries))
    times, of_all = _times(database, first), shared_bytes(database)
    sent = of_all + _sent_before(database, first)
    found = []
    for summary in summaries:
        opened, at = times[summary.round]
        sent += summary.bytes_down + summary.bytes_up
        own = dict(_of_clients(summary, database)) | {
            "bytes/down": float(summary.bytes_down + (of_all if summary.round == 1 else 0)),
            "bytes/up": float(summary.bytes_up),
            "megabytes_so_far": sent / 1e6,
            "seconds": at - opened,
        }
        own |= _kept_promise(summary, experiment)
        if summary.round > experiment.rounds:
            own |= _of_new_clients(database, summary.round)
        found.append(Figures(summary.round, at, {**shared.get(summary.round, {}), summary.round: own}))
    return found


def read_final(path: Path) -> Final | None:
    """Return what a finished run came to, by its summary.json; None: that is not written yet."""
    try:
        summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    with damage_named(path):
        flat = dict(flattened({key: value for key, value in summary.items() if key not in _NOT_TOLD}, "/"))
        flat["refused/results"] = summary["refused"]["results"]
        flat["left_out"] = len(summary.get("left_out", ()))  # 0.1 named nobody
    return Final(
        {name: float(value) for name, value in flat.items() if isinstance(value, int | float)},
        {name: value for name, value in flat.items() if isinstance(value, str)},
    )


def _of_clients(summary: pb.RoundSummary, database: Database) -> Iterator[tuple[str, float]]:
    """Yield the means over the round's clients: what it is judged by, and all else that is measured."""
    judged, scores = database.score.name, scores_of(summary, database.score)
    yield f"{judged}/downloaded", scores.downloaded
    yield f"{judged}/personalised", scores.personalised
    for name in database.score.first_of(summary.downloaded):
        yield f"{name}/downloaded", summary.downloaded[name]
        yield f"{name}/personalised", summary.personalised[name]
    yield "density", summary.density
    yield "clients", summary.clients
    yield "stragglers", len(summary.stragglers)


def _kept_promise(summary: pb.RoundSummary, experiment: Experiment) -> dict[str, float]:
    """Return the loss on training examples, where nobody is promised that it stays with them, and what was spent."""
    found = {} if experiment.privacy.hides_loss else {"train_loss": summary.train_loss}
    return found | ({"privacy/epsilon": summary.epsilon} if summary.HasField("epsilon") else {})


def _of_new_clients(database: Database, round_: int) -> dict[str, float]:
    clients = new_clients(database, round_)
    if not clients:
        return {}
    from lotteryfl.server.results.spread import spread  # numpy, for the one round that has them

    judged = database.score.name
    return {
        f"{judged}/new_downloaded": spread([client.score_downloaded for client in clients]).mean,
        f"{judged}/new_personalised": spread([client.score_personalised for client in clients]).mean,
    }


def _shared(database: Database, most: int) -> dict[int, dict[int, dict[str, float]]]:
    """Return by the round that measured it, and by that after which it was so, what the shared model was worth.

    Args:
        database: of the run.
        most: how many of the last measurements.
    """
    return {
        point.measured: {point.round: {f"{name}/shared": value for name, value in point.values.items()}}
        for point in global_curve(database, most)
    }


def _sent_before(database: Database, round_: int) -> int:
    """Return the bytes of the committed rounds before one, down and up."""
    (sent,) = database.select(
        "SELECT coalesce(sum(bytes_down + bytes_up), 0) FROM assignments JOIN rounds USING (round) "
        "WHERE rounds.state = 'committed' AND round BETWEEN 1 AND ?",
        round_ - 1,
    ).fetchone()
    return int(sent)


def _times(database: Database, first: int) -> dict[int, tuple[float, float]]:
    """Return by round when it was opened, and when it was committed."""
    rows = database.select(
        "SELECT round, opened_at, committed_at FROM rounds WHERE state = 'committed' AND round >= ?", first
    )
    return {
        number: (datetime.fromisoformat(opened).timestamp(), datetime.fromisoformat(committed).timestamp())
        for number, opened, committed in rows
    }
