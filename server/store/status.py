"""Where a run stands, for the people and programs that watch it: of the record alone, or of who drives it."""

from collections.abc import Iterable, Sequence
from heapq import nlargest
from operator import attrgetter

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.names import WorkerId
from lotteryfl.common.security.identity import name_of
from lotteryfl.common.training.score import Score
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.advice import advice
from lotteryfl.server.store.record import RunRecord
from lotteryfl.server.store.refusals import Refusals
from lotteryfl.server.store.summaries import left_out, next_round, round_summaries
from lotteryfl.server.store.traffic import Traffic

_MOST_TOLD = 100
"""Clients that a status names: a message has an end."""


def status_of(run: RunRecord) -> pb.RunStatus:
    """Return where a run stands by its directory alone, whether or not somebody is running it."""
    database = run.database
    assignments = database.assignments(next_round(database, run.experiment.rounds))
    summaries = round_summaries(database, database.last_round())
    return run_status(
        run.experiment,
        run.score,
        state=database.get("state"),
        reason=database.get("reason"),
        committed=database.committed_rounds(),
        assignments=len(assignments),
        results=sum(row.state == "done" for row in assignments),
        in_flight=[in_flight(row.client, row.worker) for row in assignments if row.state == "leased"],
        traffic=Traffic(database),
        last=summaries[-1] if summaries else None,
        refusals=Refusals(database, run.experiment.checks.max_refusals),
        left_out=left_out(database),
        advice=advice(database, run.experiment),
    )


def run_status(
    experiment: Experiment,
    score: Score,
    *,
    state: str,
    reason: str,
    committed: int,
    assignments: int,
    results: int,
    in_flight: Sequence[str],
    traffic: Traffic,
    last: pb.RoundSummary | None,
    refusals: Refusals,
    left_out: Iterable[pb.LeftOut],
    advice: str,
    workers: int = 0,
) -> pb.RunStatus:
    """Return where a run stands.

    Args:
        experiment: the run's.
        score: what the run is judged by.
        state: running, finished or failed.
        reason: why it failed, tries its open round again, or trains no more.
        committed: rounds that are committed, the last measuring of every client among them.
        assignments: how many the open round has.
        results: how many of them are done.
        in_flight: a line of `in_flight` for each that is leased.
        traffic: bytes that were sent and received in the whole run.
        last: means over the clients of the last committed round.
        refusals: results that were refused in the whole run.
        left_out: the clients that sat rounds out.
        advice: what the last rounds say against the settings.
        workers: how many are alive, as far as is known.
    """
    return pb.RunStatus(
        state=pb.RunStatus.State.Value(state.upper()),
        reason=reason,
        strategy=experiment.strategy.name,
        round=min(committed, experiment.rounds),
        rounds=experiment.rounds,
        clients=experiment.clients,
        assignments=assignments,
        results=results,
        in_flight=in_flight,
        workers=workers,
        bytes_down=traffic.down,
        bytes_up=traffic.up,
        last=last,
        refusals=refusals.messages(),
        left_out=sorted(nlargest(_MOST_TOLD, left_out, key=attrgetter("rounds")), key=attrgetter("client")),
        score=score.name if score.own else "",
        advice=advice,
    )


def in_flight(client: int, worker_id: WorkerId, progress: pb.AssignmentProgress | None = None) -> str:
    """Return in a line who works on what, and how far that is, where it is known."""
    text = f"client {client} on {name_of(worker_id)}"
    return f"{text}: epoch {progress.epoch}, loss {progress.loss:.3f}" if progress else text
