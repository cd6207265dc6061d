"""Where a run stands, for the people and programs that watch it: of the record alone, or of who drives it."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from lotteryfl.common.names import WorkerId
from lotteryfl.common.security.identity import name_of
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.advice import advice
from lotteryfl.server.store.globalcurve import last_shared
from lotteryfl.server.store.named import MOST_TOLD, clients_named, cut
from lotteryfl.server.store.record import RunRecord
from lotteryfl.server.store.refusals import Refusals
from lotteryfl.server.store.rundb.rows import AssignmentRow
from lotteryfl.server.store.rundb.steered import paused
from lotteryfl.server.store.rundb.timeleft import seconds_left
from lotteryfl.server.store.summaries import most_left_out, next_round, round_summaries, rounds_left
from lotteryfl.server.store.traffic import Traffic


class Seen(NamedTuple):
    """Who works on the open round, and who is waited for, in lines."""

    in_flight: Sequence[str]
    """A line of `in_flight` for each assignment that is leased."""
    waits: Sequence[str]
    """Who waits for whom."""
    goes_on: str
    """When the round goes on without who is missing."""
    heard: Sequence[str] = ()
    """When each worker was heard of last."""
    workers: int = 0
    """How many are alive, as far as is known."""
    machines: Sequence[pb.WorkerMachine] = ()
    """What they compute on, of the first by name."""
    devices: Mapping[str, int] = MappingProxyType({})
    """How many of them there are, by their kind of device."""


def status_of(run: RunRecord) -> pb.RunStatus:
    """Return where a run stands by its directory alone, whether or not somebody is running it."""
    database, state = run.database, run.state
    number = next_round(database, run.experiment.rounds)
    assignments = database.assignments(number)
    summaries = round_summaries(database, database.last_round())
    told = pb.RunStatus(
        reason=(state == "running" and paused(database)) or database.get("reason"),
        assignments=len(assignments),
        results=sum(row.state == "done" for row in assignments),
        last=summaries[-1] if summaries else None,
        left_out=most_left_out(database),
        advice=advice(database, run.experiment),
        shared=last_shared(database),
        seconds_left=seconds_left(database, rounds_left(state, number, run.experiment.rounds)),
    )
    return run_status(
        run,
        told,
        state=state,
        committed=database.committed_rounds(),
        seen=_seen_on_disk(run, number, assignments),
        traffic=Traffic(database),
        refusals=Refusals(database, run.experiment.checks.max_refusals),
    )


def run_status(
    run: RunRecord,
    told: pb.RunStatus,
    *,
    state: str,
    committed: int,
    seen: Seen,
    traffic: Traffic,
    refusals: Refusals,
) -> pb.RunStatus:
    """Return where a run stands.

    Args:
        run: its record; nothing is read of it.
        told: what is said as it is: reason, assignments and results of the open round, the last committed one, the
            clients that sat most rounds out, advice, the shared model's worth, seconds until the end.
        state: running, finished or failed.
        committed: rounds that are committed, the last measuring of every client among them.
        seen: who works on the open round, and who is waited for.
        traffic: bytes that were sent and received in the whole run.
        refusals: results that were refused in the whole run.
    """
    experiment, score = run.experiment, run.score
    status = pb.RunStatus(
        state=pb.RunStatus.State.Value(state.upper()),
        strategy=experiment.strategy.name,
        round=min(committed, experiment.rounds),
        rounds=experiment.rounds,
        clients=experiment.clients,
        in_flight=seen.in_flight,
        workers=seen.workers,
        waits=seen.waits,
        heard=seen.heard,
        goes_on=seen.goes_on,
        bytes_down=traffic.down,
        bytes_up=traffic.up,
        refusals=refusals.messages(),
        score=score.name if score.own else "",
        machines=seen.machines,
        devices=seen.devices,
    )
    status.MergeFrom(told)
    return status


def _seen_on_disk(run: RunRecord, round_: int, assignments: Sequence[AssignmentRow]) -> Seen:
    """Return what run.db says of who is waited for; what only the coordinator's memory knows is asked for there."""
    leased = [row for row in assignments if row.state == "leased"]
    waiting = [row for row in assignments if row.state == "waiting"]
    if run.database.get("state") != "running" or not (leased or waiting):
        return Seen([in_flight(row.client, row.worker) for row in leased], (), "")
    since = dict(run.database.select("SELECT client, leased_at FROM assignments WHERE round = ?", round_))
    waits = cut(
        [f"client {row.client} waits for {name_of(row.worker)}, which got it at {since[row.client]}" for row in leased],
        MOST_TOLD,
    )
    again = [f"client {row.client} waits for a worker, after {row.reason}" for row in waiting if row.reason]
    waits += cut(again, MOST_TOLD)
    if fresh := [row.client for row in waiting if not row.reason]:
        waits.append(f"{clients_named(fresh)} {'wait' if len(fresh) > 1 else 'waits'} for a worker")
    opened = run.database.select("SELECT opened_at FROM rounds WHERE round = ?", round_).fetchone()
    goes_on = (
        f"the round was opened at {opened[0]}; who was heard of when, and when it goes on without who is missing, "
        "knows its coordinator: lotteryfl status HOST:PORT"
    )
    return Seen([in_flight(row.client, row.worker) for row in leased], waits, goes_on)


def in_flight(client: int, worker_id: WorkerId, progress: pb.AssignmentProgress | None = None) -> str:
    """Return in a line who works on what, and how far that is, where it is known."""
    text = f"client {client} on {name_of(worker_id)}"
    return f"{text}: epoch {progress.epoch}, loss {progress.loss:.3f}" if progress else text
