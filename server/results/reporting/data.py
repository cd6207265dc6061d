"""What a report shows of a run: read once, from run.db and the masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.packedmasks import Masks, count
from lotteryfl.common.security.identity import name_of
from lotteryfl.common.training.score import Score
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.spread import Spread, spread
from lotteryfl.server.store.globalcurve import global_curve
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundir import RunDirectory, inspected
from lotteryfl.server.store.summaries import (
    ClientSummary,
    client_summaries,
    left_out,
    new_clients,
    round_summaries,
    scores_of,
)
from lotteryfl.server.store.traffic import shared_bytes

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rounds:
    """The committed rounds, in order; all arrays are (rounds,)."""

    number: IntArray
    clients: IntArray
    """The clients with a result."""
    downloaded: FloatArray
    """Mean score over the round's clients, on their test data, of the model as they got it."""
    personalised: FloatArray
    """The same after local training."""
    density: FloatArray
    down: IntArray
    """Bytes of tensors that the round's workers were sent, frames included."""
    up: IntArray
    seconds: FloatArray
    """The time from opening to commit, by the wall clock: with the pause, where the run was interrupted in between."""
    values: Mapping[str, tuple[FloatArray, FloatArray]]
    """By name, all that the task's own objective measures, the loss too: downloaded and personalised; mean as above."""


@dataclass(frozen=True)
class Curve:
    """The shared model on the task's global test data; all arrays are (measurements,)."""

    rounds: IntArray
    """After which it was measured; 0: it was θ_0."""
    values: Mapping[str, FloatArray]
    """By name, the score first."""


@dataclass(frozen=True)
class Leased:
    """One assignment on its last worker, in seconds since the run's first lease."""

    round: int
    client: int
    worker: str
    begin: float
    end: float


@dataclass(frozen=True)
class RunData:
    """One run with at least one committed round."""

    path: Path
    experiment: Experiment
    score: Score
    """What it is judged by."""
    is_finished: bool
    rounds: Rounds
    clients: tuple[ClientSummary, ...]
    """Those of the last committed round: all but new ones, where the run has finished."""
    new_clients: tuple[ClientSummary, ...]
    """Those that took part in no round before it."""
    leases: tuple[Leased, ...]
    shared_down: int
    """Bytes of θ_0, sent once to each worker."""
    masks: tuple[Masks, ...]
    """Masks by client, new ones left out, packed, mapped from their files; empty: dense."""
    table: TensorTable
    curve: Curve | None
    """None: the shared model was not measured."""
    left_out: tuple[pb.LeftOut, ...] = ()
    """The clients that sat committed rounds out."""

    @property
    def name(self) -> str:
        """Its folder's."""
        return self.path.resolve().name

    @property
    def is_final(self) -> bool:
        """Whether the last round is the one that measures every client."""
        return int(self.rounds.number[-1]) > self.experiment.rounds

    @cached_property
    def sent(self) -> FloatArray:
        """Megabytes (10^6 bytes) down and up from the start to the end of each round, θ_0 included."""
        return np.cumsum(self.down + self.rounds.up) / 1e6

    @cached_property
    def down(self) -> IntArray:
        """Bytes down of each round, those of θ_0 with the first."""
        down = self.rounds.down.copy()
        down[0] += self.shared_down
        return down

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The prunable tensors' names."""
        return tuple(spec.name for spec in self.table if spec.prunable)

    @cached_property
    def layer_densities(self) -> FloatArray:
        """(clients, layers): kept shares of the prunable tensors."""
        sizes = {spec.name: spec.numel for spec in self.table}
        kept = [[count(m[name]) / sizes[name] if name in m else 1.0 for name in self.layers] for m in self.masks]
        return np.array(kept)

    def megabytes_to(self, score: float, by_round: FloatArray) -> float:
        """Return the megabytes sent until a round was as good; inf: none was.

        Args:
            score: to be reached.
            by_round: the rounds' scores, (rounds,).
        """
        reached = np.flatnonzero(by_round >= score if self.score.higher_is_better else by_round <= score)
        return float(self.sent[reached[0]]) if reached.size else float("inf")

    def worst_decile(self) -> float:
        """Return the mean of the worst tenth of the clients' personalised scores in the last round."""
        return self.spread([client.score_personalised for client in self.clients]).worst_decile

    def spread(self, scores: Sequence[float]) -> Spread:
        """Return how scores of this run are spread."""
        return spread(scores, higher_is_better=self.score.higher_is_better)

    def globally(self) -> float:
        """Return the mean score on the task's global test data; nan: it was not measured."""
        values = [c.score_global for c in self.clients if c.score_global is not None]
        return spread(values).mean if values else float("nan")

    def shared(self) -> tuple[float, float]:
        """Return the shared model's last and best score on the task's global test data; nan: it was not measured."""
        if self.curve is None:
            return float("nan"), float("nan")
        scores = self.curve.values[self.score.name].tolist()
        return scores[-1], self.score.best(scores)

    def newcomers(self) -> tuple[float, float]:
        """Return the new clients' mean scores, downloaded and personalised; nan: there are none."""
        downloaded = [client.score_downloaded for client in self.new_clients]
        personalised = [client.score_personalised for client in self.new_clients]
        return (spread(downloaded).mean, spread(personalised).mean) if downloaded else (float("nan"), float("nan"))


def read_run(path: Path) -> RunData:
    """Read a run directory, finished or not.

    Raises:
        LotteryFLError: there is no run, no round of it is committed, or it is damaged.
    """
    with inspected(path) as run, run.database.snapshot():
        rounds = _rounds(run.database, run.score)
        if not rounds.number.size:
            raise LotteryFLError(f"{path}: no round is committed yet: there is nothing to report")
        return RunData(
            path,
            run.experiment,
            run.score,
            run.state == "finished",
            rounds,
            tuple(client_summaries(run.database, int(rounds.number[-1]))),
            tuple(new_clients(run.database, run.experiment.rounds + 1)),
            tuple(_leases(run.database)),
            shared_bytes(run.database),
            tuple(_masks(run)),
            run.table,
            _curve(run.database),
            tuple(left_out(run.database)),
        )


def _rounds(database: Database, score: Score) -> Rounds:
    summaries = round_summaries(database)
    names = set.intersection(*(set(each.downloaded) for each in summaries)) if summaries else set()
    rows = [(s.round, s.clients, *scores_of(s, score), s.density) for s in summaries]
    traffic = {
        round_: (down, up, (_time(committed) - _time(opened)))
        for round_, down, up, opened, committed in database.select(
            "SELECT round, sum(bytes_down), sum(bytes_up), opened_at, committed_at FROM rounds JOIN assignments "
            "USING (round) WHERE rounds.state = 'committed' AND round > 0 GROUP BY round"
        )
    }
    columns = np.array([(*row, *traffic[row[0]]) for row in rows], dtype=float).reshape(-1, 8).T
    number, clients, downloaded, personalised, density, down, up, seconds = columns
    return Rounds(
        number=number.astype(np.int64),
        clients=clients.astype(np.int64),
        downloaded=downloaded,
        personalised=personalised,
        density=density,
        down=down.astype(np.int64),
        up=up.astype(np.int64),
        seconds=seconds,
        values={
            name: (
                np.array([summary.downloaded[name] for summary in summaries]),
                np.array([summary.personalised[name] for summary in summaries]),
            )
            for name in score.first_of(names)
        },
    )


def _curve(database: Database) -> Curve | None:
    points = global_curve(database)
    if not points:
        return None
    names = points[0].values
    return Curve(
        np.array([point.round for point in points]),
        {name: np.array([point.values[name] for point in points]) for name in names},
    )


def _leases(database: Database) -> list[Leased]:
    rows = database.select(
        "SELECT round, client, worker, leased_at, done_at FROM assignments WHERE state = 'done' AND round > 0 "
        "ORDER BY leased_at"
    ).fetchall()
    first = _time(rows[0][3])
    return [
        Leased(round_, client, name_of(worker), _time(begin) - first, _time(end) - first)
        for round_, client, worker, begin, end in rows
    ]


def _masks(run: RunDirectory) -> list[Masks]:
    loaded: dict[str, Masks] = {}
    rows = run.database.clients()[: run.database.participants]
    for row in rows:
        if row.mask not in loaded:
            loaded[row.mask] = run.load_masks(row.mask)
    return [loaded[row.mask] for row in rows]


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
