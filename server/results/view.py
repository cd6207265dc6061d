"""A run directory for notebooks and scripts: read only, as tables and tensors. Tables need pandas."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.models.ticket import client_row, global_tensors, strategy_tensors, ticket_tensors
from lotteryfl.server.results.following import FollowedRounds, is_being_written, stamps
from lotteryfl.server.results.summary import summarise
from lotteryfl.server.store.globalcurve import global_curve
from lotteryfl.server.store.rundb.measures import score_column
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.status import status_of
from lotteryfl.server.store.summaries import round_summaries

if TYPE_CHECKING:
    import pandas as pd

_METRICS = """
    SELECT m.*, r.density, r.train_loss, r.seconds FROM metrics m JOIN results r USING (round, client)
    ORDER BY round, client, phase
"""
_OF_OBJECTIVES = """
    SELECT round, client, phase, m.examples, m.loss, r.density, r.train_loss, r.seconds
    FROM metrics m JOIN results r USING (round, client) ORDER BY round, client, phase
"""
_MEASURES = "SELECT round, client, phase, name, value FROM measures"
_ASSIGNMENTS = """
    SELECT a.round, a.client, a.state, a.attempt, a.worker, a.bytes_down, a.bytes_up, a.leased_at, a.done_at,
           a.density AS density_before, r.density, r.examples, r.seconds
    FROM assignments a LEFT JOIN results r USING (round, client) ORDER BY a.round, a.client
"""

_CLIENTS = """
    WITH counted AS (
        SELECT client, count(*) AS rounds, max(round) AS last_round FROM results JOIN rounds USING (round)
        WHERE round > 0 AND state = 'committed' GROUP BY client
    ), worked AS (
        SELECT client, sum(state != 'done' AND round IN (SELECT round FROM rounds WHERE state = 'committed')) AS missed,
               sum(bytes_down) AS bytes_down, sum(bytes_up) AS bytes_up FROM assignments WHERE round > 0 GROUP BY client
    )
    SELECT c.client, coalesce(n.rounds, 0) AS rounds, n.last_round, a.worker, coalesce(w.missed, 0) AS missed,
           r.examples, coalesce(r.density, c.density) AS density, {downloaded} AS score_downloaded,
           {personalised} AS score_personalised, coalesce(w.bytes_down, 0) AS bytes_down,
           coalesce(w.bytes_up, 0) AS bytes_up
    FROM clients c LEFT JOIN counted n USING (client) LEFT JOIN worked w USING (client)
    LEFT JOIN results r ON (r.round, r.client) = (n.last_round, c.client)
    LEFT JOIN assignments a ON (a.round, a.client) = (n.last_round, c.client)
    LEFT JOIN metrics d ON (d.round, d.client, d.phase) = (n.last_round, c.client, 'downloaded')
    LEFT JOIN metrics p ON (p.round, p.client, p.phase) = (n.last_round, c.client, 'personalised')
    ORDER BY c.client
"""

_PHASES = ("downloaded", "personalised")
"""Fields of a round's summary that are numbers by name."""


class RunTables(NamedTuple):
    """A run in three tables, as the methods of `RunView` by these names return them."""

    rounds: "pd.DataFrame"
    clients: "pd.DataFrame"
    assignments: "pd.DataFrame"


class RunView:
    """One run. Close it, or use it as a context manager; other processes may go on with the run meanwhile."""

    def __init__(self, path: str | Path) -> None:
        """Open a run directory.

        Raises:
            LotteryFLError: there is no run, or it is damaged.
        """
        self._path = Path(path)
        self._open()

    def _open(self) -> None:
        self._stamps = stamps(self._path)
        self._opened = RunDirectory(self._path, read_only=True)

    @property
    def _run(self) -> RunDirectory:
        """The run; opened again where nobody was running it then and somebody has since."""
        if not is_being_written(self._stamps) and stamps(self._path) != self._stamps:
            self._opened.close()
            self._open()
        return self._opened

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._opened.close()

    @property
    def experiment(self) -> Experiment:
        """The experiment as resolved."""
        return self._run.experiment

    def status(self) -> pb.RunStatus:
        """Return where the run stands, as `show` is told of it: `state`, `round` of `rounds`, and who works on what.

        `state` is one of `RunStatus.RUNNING`, `FINISHED` and `FAILED`, and then `reason` says why.
        """
        return status_of(self._run)

    def follow(self, first: int = 1, *, interval: float = 1.0, timeout: float | None = None) -> FollowedRounds:
        """Return the rounds to go through, each as soon as it is committed, until the run has finished or failed.

        `for round in run.follow(): …`, or `async for`, with the fields of `status().last`, which are columns of
        `rounds`. Whoever drives the run, in whichever process, and however often its coordinator is started again; one
        that nobody drives is waited for. `status` then says how it ended.

        Args:
            first: the round to begin with: 1 is all that are committed, too.
            interval: seconds between two looks at the directory.
            timeout: seconds to wait for each round, after which TimeoutError is raised; None: for ever.
        """
        return FollowedRounds(self._path, first, interval, timeout)

    def rounds(self) -> "pd.DataFrame":
        """Return a row for each committed round, the last measuring of every client included.

        Columns: means over the round's clients of `accuracy_downloaded`, `accuracy_personalised`, `density` and
        `train_loss`; `round`, `clients`, `seconds`, `broadcasts`, `stragglers`, `refused`; `bytes_down` and `bytes_up`
        of its assignments; and where privacy is promised `epsilon` and `delta`, elsewhere None. Where the task has an
        objective of its own, two columns for each of its metrics and the loss in place of accuracy's, as
        `mae_downloaded` and `mae_personalised`.

        Raises:
            LotteryFLError: pandas is not installed.
        """
        names = [field.name for field in pb.RoundSummary.DESCRIPTOR.fields if field.name not in _PHASES]
        if self._run.score.own:
            names = [name for name in names if not name.startswith("accuracy_")]
        summaries = round_summaries(self._run.database)
        rows = [{name: _value(each, name) for name in names} | _measured(each) for each in summaries]
        others = dict.fromkeys(name for each in summaries for name in _measured(each))
        table: pd.DataFrame = _pandas().DataFrame(rows, columns=[*names, *others])
        return table

    def summary(self) -> Mapping[str, Any]:
        """Return what summary.json holds, for a run with at least one committed round."""
        found: Mapping[str, Any] = json.loads(json.dumps(summarise(self._run)))
        return found

    def metrics(self) -> "pd.DataFrame":
        """Return a row for each round, client and phase (validation, downloaded, personalised, global, shared).

        `shared` is the shared model on global test data: it stands with the client whose worker measured it.
        A last measuring after which the run was made longer has its number with a minus: -31 after 30 rounds.

        Columns: the metrics of `common.training.metrics.Metrics`, or those of the task's own objective, and of the
        whole result `density` after the work, `train_loss` and `seconds`.

        Raises:
            LotteryFLError: pandas is not installed.
        """
        if not self._run.score.own:
            return self._table(_METRICS)
        key = ["round", "client", "phase"]
        named = self._table(_MEASURES).pivot_table(index=key, columns="name", values="value").reset_index()
        table: pd.DataFrame = self._table(_OF_OBJECTIVES).merge(named, on=key, how="left")
        return table

    def global_curve(self) -> "pd.DataFrame":
        """Return a row for each measurement of the shared model on the task's global test data.

        Columns: `round`, after which it was so (0: θ_0), `examples`, and all that was measured, the score first.

        Raises:
            LotteryFLError: pandas is not installed.
        """
        curve = global_curve(self._run.database)
        rows = [(point.round, point.examples, *point.values.values()) for point in curve]
        names = curve[0].values if curve else ()
        table: pd.DataFrame = _pandas().DataFrame(rows, columns=["round", "examples", *names])
        return table

    def assignments(self) -> "pd.DataFrame":
        """Return a row for each round and client: worker, bytes, and the times of lease and result (UTC).

        Rounds are numbered as in `metrics`.

        Raises:
            LotteryFLError: pandas is not installed.
        """
        table = self._table(_ASSIGNMENTS)
        times = partial(_pandas().to_datetime, format="ISO8601", utc=True, errors="coerce")
        return table.assign(leased_at=times(table["leased_at"]), done_at=times(table["done_at"]))

    def clients(self) -> "pd.DataFrame":
        """Return a row for each client, over the committed rounds; the last measuring of every client is one.

        Columns: `client`; `rounds` that it has a result of, the `last_round` of them and its `worker`; `missed`, rounds
        that it sat out; of its last result `examples`, `density`, `score_downloaded` and `score_personalised`, which
        are accuracies where the task has no objective of its own; `bytes_down` and `bytes_up` of all its assignments.
        Where it has no result yet, `last_round` and what is of it are missing, and `density` is 1.

        Raises:
            LotteryFLError: pandas is not installed.
        """
        downloaded, personalised = (score_column(self._run.score, metrics) for metrics in ("d", "p"))
        table = self._table(
            _CLIENTS.format(downloaded=downloaded, personalised=personalised), score=self._run.score.name
        )
        return table.astype({"last_round": "Int64", "examples": "Int64"})

    def to_pandas(self) -> RunTables:
        """Return the run in its three tables, `rounds`, `clients` and `assignments`, each as it is then.

        Raises:
            LotteryFLError: pandas is not installed.
        """
        return RunTables(self.rounds(), self.clients(), self.assignments())

    def masks(self, client: int) -> dict[str, Tensor]:
        """Return the client's last mask by tensor name: bool tensors of the weights' shapes; empty: it is dense.

        Raises:
            LotteryFLError: there is no such client.
        """
        packed = self._run.load_masks(client_row(self._run, client).mask)
        return {name: packedmasks.unpack(mask, self._run.table[name].shape) for name, mask in packed.items()}

    def ticket(self, client: int) -> dict[str, Tensor]:
        """Return the model that the client last returned, as a state dict; the global one, if it never took part.

        Raises:
            LotteryFLError: there is no such client.
        """
        return ticket_tensors(self._run, client)

    def global_model(self, round: int | None = None) -> dict[str, Tensor]:  # noqa: A002 - as tables call it
        """Return the newest global model, or that of a round whose model is kept (0: θ_0), as a state dict.

        Raises:
            LotteryFLError: there is none of that round.
        """
        return global_tensors(self._run, round)

    def strategy_tensors(self, client: int | None = None) -> dict[str, Tensor]:
        """Return the tensors of the strategy's own that all share, or those that are one client's, by name.

        Raises:
            LotteryFLError: there is no such client.
        """
        return strategy_tensors(self._run, client)

    def _table(self, query: str, **named: object) -> "pd.DataFrame":
        rows = self._run.database.select(query, **named)
        table: pd.DataFrame = _pandas().DataFrame(rows.fetchall(), columns=[column[0] for column in rows.description])
        return table


def open_run(path: str | Path) -> RunView:
    """Open a run directory to look at, also while a process is running it.

    Args:
        path: the run directory.

    Returns:
        The run, read only; close it, or use it as a context manager.

    Raises:
        LotteryFLError: there is no run, or it is damaged.
    """
    return RunView(path)


def _value(summary: pb.RoundSummary, name: str) -> Any:
    if name == "stragglers":
        return list(summary.stragglers)
    if name in ("epsilon", "delta") and not summary.HasField("epsilon"):
        return None
    return getattr(summary, name)


def _measured(summary: pb.RoundSummary) -> dict[str, float]:
    """Return what the round's task measures by its own objective, by column."""
    return {
        f"{name}_{phase}": getattr(summary, phase)[name] for phase in _PHASES for name in sorted(summary.downloaded)
    }


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise LotteryFLError("tables need pandas: pip install 'lotteryfl[notebook]'") from error
    return pandas
